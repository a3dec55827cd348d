"""How XLA compiles what is run but a few times.

Compiling is most of what the tests take, and what they promise holds for any program; runs in processes of their own
inherit this.
"""

UNOPTIMISED = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,  # a program in 32 parts takes a quarter longer on two cores
}
XLA_FLAGS = " ".join(f"--{name}={str(value).lower()}" for name, value in UNOPTIMISED.items())
