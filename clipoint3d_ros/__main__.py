"""`python -m clipoint3d_ros COMMAND …`."""

import sys

from clipoint3d_ros.cli import main

if __name__ == "__main__":
    sys.exit(main())
