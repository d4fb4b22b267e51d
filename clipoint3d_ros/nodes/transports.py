"""Fast DDS's transports for clouds of some megabytes, which are lost with its own settings. No ROS is imported.

Fast DDS's other way, `LARGE_DATA`, is not taken: of 25 times that three participants of it (3.2) started at once, in 3
one did not find another and never would, and destroying one may wait for ever. With the profile that is shipped here
it was none of 28.
"""

from __future__ import annotations

import os

from clipoint3d_ros.resources import config_file

BUILTIN = "FASTDDS_BUILTIN_TRANSPORTS"
FAST_DDS_2, FAST_DDS_3 = "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"
CHOICES = (BUILTIN, FAST_DDS_2, FAST_DDS_3)
PROFILE = "fastdds_large_clouds.xml"
_WITH_FAST_DDS_2 = ("humble", "iron", "jazzy")


def variable() -> str:
    """The environment variable that names a profile to this ROS's Fast DDS; version 3 warns of version 2's."""
    return FAST_DDS_2 if os.environ.get("ROS_DISTRO", "") in _WITH_FAST_DDS_2 else FAST_DDS_3


def large_clouds() -> dict[str, str]:
    """Environment variables for every process that sends or receives large clouds; none where the user chose some.

    Raises:
        FileNotFoundError: the profile is not installed.
    """
    if any(os.environ.get(name) for name in CHOICES):
        return {}
    return {variable(): str(config_file(PROFILE))}
