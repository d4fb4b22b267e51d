"""From a depth camera's whole cloud to one label a point: crop, support planes, clusters. Arrays in, arrays out."""
