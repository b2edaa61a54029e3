import unittest

from shop import cart


class Cart(unittest.TestCase):
    def test_total(self):
        self.assertEqual(cart.total([{"price": 3, "count": 2}, {"price": 1, "count": 1}]), 7)

    def test_average(self):
        self.assertEqual(cart.average([{"price": 3, "count": 2}]), 3)
