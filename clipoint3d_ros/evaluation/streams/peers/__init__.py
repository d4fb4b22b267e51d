"""The methods that ours is measured against, each from its paper, one module each."""
