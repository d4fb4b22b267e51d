# Source this to work by hand:  . env/activate.sh
# The environment's programs, this checkout on the path, and transports that carry big clouds.
_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
if [ ! -e "$_root/.venv" ]; then
    echo "there is no environment in $_root yet; run 'make setup' there first" >&2
    unset _root
    return 1
fi
_venv="$(readlink -f "$_root/.venv")"
export VIRTUAL_ENV="$_venv" PATH="$_root/env/bin:$_venv/bin:$PATH"
export PYTHONPATH="$_root${PYTHONPATH:+:$PYTHONPATH}"
# Best-effort clouds of some megabytes are lost whole with Fast DDS's default transports.
if [ -z "${FASTDDS_BUILTIN_TRANSPORTS:-}${FASTDDS_DEFAULT_PROFILES_FILE:-}${FASTRTPS_DEFAULT_PROFILES_FILE:-}" ]; then
    case "${ROS_DISTRO:-}" in
        humble | iron | jazzy) export FASTRTPS_DEFAULT_PROFILES_FILE="$_root/config/fastdds_large_clouds.xml" ;;
        *) export FASTDDS_DEFAULT_PROFILES_FILE="$_root/config/fastdds_large_clouds.xml" ;;
    esac
fi
if [ -d "$_venv/share/ament_index" ]; then
    export AMENT_PREFIX_PATH="$_venv${AMENT_PREFIX_PATH:+:$AMENT_PREFIX_PATH}"
    # Set by the ROS wheels in a running Python; inherited from another environment it would name that one's libraries.
    unset _ROS_WHEELS_BOOTSTRAP_COMPLETE
fi
unset _root _venv
