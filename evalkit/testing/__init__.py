"""The contract of `evalkit.method.Method` as tests, for methods of any package.

    from evalkit.testing import contract
    from my_package import MyMethod

    test_my_method = contract(MyMethod())

pytest collects one test for each of `CHECKS`. Without pytest, `check_method(MyMethod())` runs them all.
They need no weights, no network and no GPU: a small random Qwen2-VL and one generated clip, a few seconds a method.
"""

from evalkit.testing.method_contract import CHECKS, check_method, contract

__all__ = ["CHECKS", "check_method", "contract"]
