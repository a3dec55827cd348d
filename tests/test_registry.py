import abc
import re

import pytest

from jaxasr.errors import ConfigError
from jaxasr.registry import Registry, did_you_mean


class Base(abc.ABC):
    @abc.abstractmethod
    def run(self): ...

    @property
    @abc.abstractmethod
    def width(self): ...

    def helper(self):
        return "not in the protocol, so an entry may leave it"


class First(Base):
    width = 1

    def run(self):
        return "first"


@pytest.fixture
def things():
    registry = Registry("thing", Base, ("run", "width"))
    registry.register("first")(First)
    return registry


def test_a_registered_class_is_found_by_name(things):
    @things.register("another")
    class Another(First):  # what it inherits from something other than the base counts as its own
        pass

    assert things["first"] is First
    assert things["another"] is Another
    assert list(things) == ["another", "first"]
    assert "first" in things
    assert "third" not in things
    assert (things.name_of(First), things.name_of(Another)) == ("first", "another")


def test_a_name_is_used_once(things):
    message = f"thing 'first': already registered by {__name__}.First; names are used once; choose another name."
    with pytest.raises(ConfigError, match=re.escape(message)):
        things.register("first")(First)
    assert list(things) == ["first"]


def test_a_class_that_is_defined_anew_takes_its_place(things):
    def cell(size):
        @things.register("own")
        class Own(First):
            width = size

        return Own

    before, now = cell(1), cell(2)
    assert things["own"] is now is not before
    assert things.name_of(now) == "own"
    with pytest.raises(ConfigError, match=r"thing 'own': already registered by .*cell\.<locals>\.Own; names are used"):
        things.register("own")(type("Other", (First,), {}))
    assert things["own"] is now


@pytest.mark.parametrize("entry", [int, First(), lambda: None])
def test_an_entry_derives_from_the_base(things, entry):
    with pytest.raises(ConfigError, match=r"^thing 'odd': .* does not derive from Base; every thing does; "):
        things.register("odd")(entry)
    assert "odd" not in things


def test_an_entry_defines_the_protocol(things):
    class NoWidth(Base):
        def run(self):
            return None

    class Nothing(Base):
        pass

    with pytest.raises(ConfigError, match=r"thing 'odd': .*NoWidth does not define width; every thing defines run, "):
        things.register("odd")(NoWidth)
    with pytest.raises(ConfigError, match=r"thing 'odd': .*Nothing does not define run, width; "):
        things.register("odd")(Nothing)
    assert "odd" not in things


def test_a_miss_names_what_there_is_and_what_is_near(things):
    things.register("second")(type("Second", (First,), {}))
    with pytest.raises(
        ConfigError, match=r"thing 'secnd': not known; there are first, second; .* Did you mean 'second'\?$"
    ):
        things["secnd"]
    with pytest.raises(ConfigError, match=r"thing 'xyz': not known; there are first, second; .*--import=MODULE\.$"):
        things["xyz"]


def test_a_class_without_a_name(things):
    class Unnamed(First):
        pass

    with pytest.raises(ConfigError, match=r"thing: .*Unnamed is not registered; .* decorate it with"):
        things.name_of(Unnamed)


def test_did_you_mean():
    assert did_you_mean("encodr", ["decoder", "encoder"]) == " Did you mean 'encoder'?"
    assert did_you_mean("frontend", ["decoder", "encoder"]) == ""
    assert did_you_mean("x", []) == ""
