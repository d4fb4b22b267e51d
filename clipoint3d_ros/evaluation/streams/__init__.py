"""Streams of objects, one after another: what online adaptation gains over the frozen model, and what it risks.

A pool holds clouds, an order makes a stream of it, a method answers the stream's objects one at a time and learns as it
goes. The frozen model's view features of a pool are computed once and shared by all orders, methods and seeds.
"""
