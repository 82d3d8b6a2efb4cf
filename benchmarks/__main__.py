"""All benchmarks: python -m benchmarks"""

from benchmarks import micro

micro.main()
