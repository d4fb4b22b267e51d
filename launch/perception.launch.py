"""Start the perception node on a topic of clouds.

    ros2 launch clipoint3d_ros perception.launch.py input:=/camera/segments classes:="mug, can, box"

`ros2 launch clipoint3d_ros perception.launch.py --show-args` lists the arguments.
"""

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode, Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from clipoint3d_ros.nodes.parameter_files import mentions
from clipoint3d_ros.nodes.transports import large_clouds

SHARE = FindPackageShare("clipoint3d_ros")
SWITCH = ["true", "false"]

ARGUMENTS = [
    DeclareLaunchArgument(
        "input",
        default_value="/segments",
        description="topic of sensor_msgs/PointCloud2: labelled clouds, or clouds of one object; with "
        "segmenter:=true a depth camera's own",
    ),
    DeclareLaunchArgument(
        "segmenter",
        default_value="false",
        choices=SWITCH,
        description="whether input is a depth camera's own cloud, which a segmenter node cuts into objects first",
    ),
    DeclareLaunchArgument(
        "bundle",
        default_value="",
        description="folder of an adapter bundle; empty leaves it to params_file, where it is empty, the frozen model, "
        "unless changed",
    ),
    DeclareLaunchArgument(
        "classes",
        default_value="",
        description="class names separated by commas, or the path of a class description file (.yaml); "
        "empty leaves it to params_file",
    ),
    DeclareLaunchArgument(
        "params_file",
        default_value=PathJoinSubstitution([SHARE, "config", "perception.yaml"]),
        description="YAML file of node parameters; the launch arguments that are given win over it",
    ),
    DeclareLaunchArgument(
        "adaptation",
        default_value="off",
        choices=["off", "statistics", "gradient"],
        description="whether an adaptation node runs beside perception: statistics follows the robot's objects without "
        "gradients, gradient trains LoRA (and prompts, by the recipe) as well",
    ),
    DeclareLaunchArgument(
        "one_process",
        default_value="false",
        choices=SWITCH,
        description="with adaptation: both nodes in one process, which share the frozen backbone's memory",
    ),
    DeclareLaunchArgument(
        "autostart",
        default_value="",
        choices=[*SWITCH, ""],
        description="whether the node configures and activates itself, or waits for a lifecycle manager; "
        "empty leaves it to params_file, where it is true unless changed",
    ),
    DeclareLaunchArgument(
        "device", default_value="", description="torch device such as cpu or cuda:0; empty leaves it to params_file"
    ),
    DeclareLaunchArgument(
        "use_sim_time",
        default_value="",
        choices=[*SWITCH, ""],
        description="whether time comes from /clock; empty leaves it to params_file",
    ),
    DeclareLaunchArgument("namespace", default_value="", description="namespace of the node and its topics"),
    DeclareLaunchArgument(
        "rviz",
        default_value="false",
        choices=SWITCH,
        description="whether RViz shows clouds, labels and views",
    ),
]


SHOWN = ("markers", "views")  # of perception's outputs, by RViz
SEGMENTS = "segmenter/output/segments"  # in the nodes' namespace


def nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """Perception and what goes with it: a segmenter before, an adaptation node beside."""
    if LaunchConfiguration("segmenter").perform(context) != "true":
        return perception(context, LaunchConfiguration("input").perform(context))
    return [segmenter(context), *perception(context, SEGMENTS)]


def segmenter(context: LaunchContext) -> LaunchDescriptionEntity:
    """The node that cuts a camera's cloud into objects; it reads the same parameter file."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ("autostart", "use_sim_time")}
    switches = {name: ParameterValue(word == "true", value_type=bool) for name, word in given.items() if word}
    return LifecycleNode(
        package="clipoint3d_ros",
        executable="segmenter_node",
        name="segmenter",
        namespace=LaunchConfiguration("namespace").perform(context),
        parameters=[LaunchConfiguration("params_file").perform(context), switches],
        remappings=[("~/input/points", LaunchConfiguration("input").perform(context))],
        output="screen",
    )


def perception(context: LaunchContext, points: str) -> list[LaunchDescriptionEntity]:
    """The node on a topic of segmented points, with those parameters that were given as arguments."""

    def given(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    words = {name: given(name) for name in ("bundle", "classes", "device") if given(name)}
    parameters = {name: ParameterValue(word, value_type=str) for name, word in words.items()}
    for name in ("autostart", "use_sim_time"):
        if not given(name):
            continue
        parameters[name] = ParameterValue(given(name) == "true", value_type=bool)
    if given("segmenter") == "true" and not mentions(given("params_file"), "stable_ids"):
        parameters["stable_ids"] = ParameterValue(True, value_type=bool)  # our segmenter's are
    adapting, remapped = given("adaptation") != "off", [("~/input/points", points)]
    mode = {"mode": ParameterValue(given("adaptation"), value_type=str)} if adapting else {}
    if adapting and given("one_process") == "true":
        both = Node(
            package="clipoint3d_ros",
            executable="robot_nodes",
            namespace=given("namespace"),
            parameters=[given("params_file"), {**parameters, **mode}],  # each node takes those it knows
            remappings=[("perception:" + name, topic) for name, topic in remapped],
            output="screen",
        )
        return [both]
    node = LifecycleNode(
        package="clipoint3d_ros",
        executable="perception_node",
        name="perception",
        namespace=given("namespace"),
        parameters=[given("params_file"), parameters],
        remappings=remapped,
        output="screen",
    )
    if not adapting:
        return [node]
    known = ("classes", "device", "autostart", "use_sim_time", "stable_ids")
    shared = {name: parameters[name] for name in known if name in parameters}
    companion = LifecycleNode(
        package="clipoint3d_ros",
        executable="adaptation_node",
        name="adaptation",
        namespace=given("namespace"),
        parameters=[given("params_file"), {**shared, **mode}],
        output="screen",
    )
    return [node, companion]


def rviz(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """RViz, where it is asked for, on the topics that there are: its configuration knows them by their defaults."""
    if LaunchConfiguration("rviz").perform(context) != "true":
        return []
    segmented = LaunchConfiguration("segmenter").perform(context) == "true"
    clouds = SEGMENTS if segmented else LaunchConfiguration("input").perform(context)
    moved = {"/segments": clouds, **{f"/perception/output/{name}": f"perception/output/{name}" for name in SHOWN}}
    window = Node(
        package="rviz2",
        executable="rviz2",
        namespace=LaunchConfiguration("namespace").perform(context),  # in it, relative names are the nodes'
        arguments=["-d", PathJoinSubstitution([SHARE, "rviz", "perception.rviz"])],
        parameters=[{"use_sim_time": LaunchConfiguration("use_sim_time").perform(context) == "true"}],
        remappings=list(moved.items()),
    )
    return [window]


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` runs."""
    # A best-effort subscriber hears nothing of clouds of some megabytes with Fast DDS's default transports;
    # the publisher needs the same setting. What the user has chosen stays.
    transports = [SetEnvironmentVariable(name, value) for name, value in large_clouds().items()]
    return LaunchDescription([*ARGUMENTS, *transports, OpaqueFunction(function=nodes), OpaqueFunction(function=rviz)])
