"""All benchmarks: python -m benchmarks"""

from benchmarks import macro, micro, recurrent

for module in (micro, macro, recurrent):
    module.main()
