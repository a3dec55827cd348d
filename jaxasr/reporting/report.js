// Values under the pointer, a line that moves with the sound; the page can be read without.
"use strict";

function nearest(points, x) {
  return points.reduce((best, point) => (Math.abs(point[0] - x) < Math.abs(best[0] - x) ? point : best));
}

function mark(parent, name, attributes) {
  const element = document.createElementNS(parent.namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent.append(element);
}

function showValues(svg) {
  const series = JSON.parse(svg.dataset.chart);
  const cursor = svg.querySelector(".cursor");
  const tip = document.createElement("div");
  tip.className = "tip";
  tip.hidden = true;
  svg.after(tip);

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const scale = box.width / svg.viewBox.baseVal.width;
    const x = (event.clientX - box.left) / scale;
    const at = nearest(series.flatMap((one) => one.points), x);
    const lines = [`step ${at[2]}`];
    cursor.replaceChildren();
    mark(cursor, "line", { x1: at[0], x2: at[0], y1: 10, y2: 166 });
    for (const one of series) {
      const point = nearest(one.points, at[0]);
      mark(cursor, "circle", { cx: point[0], cy: point[1], r: 3, class: `c${one.colour}` });
      lines.push(`${one.name ? one.name + " " : ""}${point[3]}`);
    }
    tip.replaceChildren(...lines.map((line) => Object.assign(document.createElement("div"), { textContent: line })));
    tip.hidden = false;
    const left = at[0] * scale + 12;
    tip.style.left = `${left + tip.offsetWidth > box.width ? left - tip.offsetWidth - 24 : left}px`;
    tip.style.top = `${svg.offsetTop + 12}px`;
  });
  svg.addEventListener("pointerleave", () => {
    tip.hidden = true;
    cursor.replaceChildren();
  });
}

function followSound(look) {
  const audio = look.querySelector("audio");
  if (!audio) return;
  const lines = [...look.querySelectorAll("svg[data-per-second]")].map((svg) => [
    svg.querySelector(".playhead"), Number(svg.dataset.left), Number(svg.dataset.perSecond),
  ]);
  const move = () => {
    for (const [line, left, perSecond] of lines) {
      line.setAttribute("transform", `translate(${audio.currentTime * perSecond} 0)`);
      line.style.visibility = audio.currentTime > 0 ? "visible" : "hidden";
    }
    if (!audio.paused) requestAnimationFrame(move);
  };
  for (const event of ["play", "seeked", "pause"]) audio.addEventListener(event, move);
}

document.querySelectorAll("svg[data-chart]").forEach(showValues);
document.querySelectorAll(".look").forEach(followSound);
document.documentElement.dataset.height = document.documentElement.scrollHeight;
