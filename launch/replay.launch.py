"""Play a labelled bag to the nodes, score their answers, and show them.

    ros2 launch clipoint3d_ros replay.launch.py bag:=my_bag rviz:=true shutdown:=false

The nodes are started by `clipoint3d evaluate`, which plays the bag and says how often they were right. Their topics are
in `namespace`, in this shell's ROS domain, where RViz and others see them.
`ros2 launch clipoint3d_ros replay.launch.py --show-args` lists the arguments.
"""

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, SetEnvironmentVariable, Shutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import ExecutableInPackage, FindPackageShare

from clipoint3d_ros.nodes.transports import large_clouds

SHARE = FindPackageShare("clipoint3d_ros")
SWITCH = ["true", "false"]

ARGUMENTS = [
    DeclareLaunchArgument(
        "bag", description="labelled recording: a rosbag2 folder, an .mcap or .db3 file, or a folder of these"
    ),
    DeclareLaunchArgument(
        "adapt",
        default_value="off",
        choices=["off", "statistics", "gradient"],
        description="mode of an adaptation node that learns beside perception from an empty memory; the frozen and the "
        "adapted model are then scored side by side",
    ),
    DeclareLaunchArgument(
        "wait",
        default_value="true",
        choices=SWITCH,
        description="true: the next frame comes after the answer, which measures accuracy; false: frames come at the "
        "bag's pace times rate, and those that are dropped are counted",
    ),
    DeclareLaunchArgument("rate", default_value="1.0", description="times the bag's pace, with wait:=false"),
    DeclareLaunchArgument(
        "params_file",
        default_value="",
        description="YAML file of parameters of the nodes, such as a profile; empty: their defaults",
    ),
    DeclareLaunchArgument(
        "bundle", default_value="", description="folder of an adapter bundle, scored beside its frozen model"
    ),
    DeclareLaunchArgument(
        "backbone", default_value="", description="open_clip model; empty: the bundle's, else the embedded one"
    ),
    DeclareLaunchArgument("pretrained", default_value="", description="weight tag or checkpoint file of backbone"),
    DeclareLaunchArgument(
        "classes", default_value="", description="class file; empty: the bundle's, else the eight tabletop classes"
    ),
    DeclareLaunchArgument(
        "device", default_value="", description="torch device such as cpu or cuda:0; empty: a GPU where there is one"
    ),
    DeclareLaunchArgument(
        "points_topic", default_value="", description="the bag's topic of clouds; empty: /segments, else its only one"
    ),
    DeclareLaunchArgument(
        "truth_topic", default_value="", description="the bag's topic of true objects; empty: /ground_truth"
    ),
    DeclareLaunchArgument("report", default_value="", description="folder for a page of figures; empty: none"),
    DeclareLaunchArgument("json", default_value="", description="file for the figures; empty: none"),
    DeclareLaunchArgument(
        "namespace",
        default_value="replay",
        description="namespace of the nodes and their topics, in the domain of ROS_DOMAIN_ID",
    ),
    DeclareLaunchArgument(
        "rviz", default_value="false", choices=SWITCH, description="whether RViz shows clouds, labels and views"
    ),
    DeclareLaunchArgument(
        "frame", default_value="camera_level", description="frame of the bag's clouds, in which RViz shows them"
    ),
    DeclareLaunchArgument(
        "shutdown",
        default_value="true",
        choices=SWITCH,
        description="whether everything ends, RViz too, when the bag has been played and scored",
    ),
]

SHOWN = ("markers", "views")  # of perception's outputs, by RViz
# Options of `clipoint3d evaluate`; each has an argument's value where that is given.
OPTIONS = (
    "adapt",
    "rate",
    "params_file",
    "bundle",
    "backbone",
    "pretrained",
    "classes",
    "device",
    "points_topic",
    "truth_topic",
    "report",
    "json",
    "namespace",
)


def played(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The program that starts the nodes, plays the bag and scores it; and RViz, where it is asked for."""

    def given(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    space = given("namespace").strip("/")
    if not space:
        raise ValueError("namespace is empty; name one, such as replay: without it nobody would see the topics")
    options = [f"--{name.replace('_', '-')}={given(name)}" for name in OPTIONS if given(name)]
    waits = ["--wait"] if given("wait") == "true" else []
    done = Shutdown(reason="the bag has been played and scored")
    program = ExecuteProcess(
        cmd=[ExecutableInPackage(package="clipoint3d_ros", executable="evaluate_bag"), *options, *waits, given("bag")],
        name="evaluate_bag",
        output="screen",
        on_exit=done if given("shutdown") == "true" else None,
    )
    return [program, *([rviz(space, given("frame"))] if given("rviz") == "true" else [])]


def rviz(space: str, frame: str) -> Node:
    """RViz on the replay's topics; its configuration knows them by the names that perception.launch.py gives them."""
    topics = {"/segments": "input/points", **{f"/perception/output/{name}": f"output/{name}" for name in SHOWN}}
    return Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", PathJoinSubstitution([SHARE, "rviz", "perception.rviz"]), "-f", frame],
        remappings=[(topic, f"/{space}/perception/{name}") for topic, name in topics.items()],
    )


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    # As in perception.launch.py: RViz, a best-effort subscriber, hears nothing of large clouds without it.
    transports = [SetEnvironmentVariable(name, value) for name, value in large_clouds().items()]
    return LaunchDescription([*ARGUMENTS, *transports, OpaqueFunction(function=played)])
