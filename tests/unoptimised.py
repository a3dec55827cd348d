"""How XLA compiles what is run but a few times.

Compiling is most of what the tests take, and what they promise holds for any program; runs in processes of their own
inherit this.
"""

import importlib.metadata

UNOPTIMISED = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,  # a program in 32 parts takes a quarter longer on two cores
}
# an older XLA does not know it, and ends the process for that
if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) >= (0, 10):
    UNOPTIMISED["xla_cpu_opt_preset"] = "CPU_OPT_PRESET_FAST_COMPILE"
XLA_FLAGS = " ".join(f"--{name}={str(value).lower()}" for name, value in UNOPTIMISED.items())
