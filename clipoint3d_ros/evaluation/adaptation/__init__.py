"""The fair table: every method on the same backbone, data, seeds and views, in one run."""
