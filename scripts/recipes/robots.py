"""Tables of robots of MuJoCo Menagerie."""

from __future__ import annotations

from metarl.scripts.recipes.kinds import Recipe, Row, references

GO1 = "menagerie:unitree_go1?payload=uniform(0,5)&floor_friction=uniform(0.3,1.2)&motor_strength=uniform(0.7,1.1)"
GO1 += "&timestep=0.004&cone=pyramidal"
SO_ARM100 = "menagerie:trs_so_arm100?payload=uniform(0,0.3)&site=fixed_jaw_pad_1&timestep=0.004&cone=pyramidal"

ROBOTS = (
    Recipe(
        name="go1",
        title="Unitree Go1: unknown payload, floor friction and motor strength",
        family=GO1,
        references=references(21.0, 19.0),
        rows=(Row("rma", "rma", 47.0), Row("rl2", "rl2", 48.0)),
        about="Every agent has its preset for robots that walk.",
    ),
    Recipe(
        name="so-arm100",
        title="SO-ARM100: an unknown payload, and a place to reach",
        family=SO_ARM100,
        references=references(5.0, 4.0),
        rows=(Row("rma", "rma", 25.0), Row("rl2", "rl2", 41.0)),
        about="Every agent has its preset for robots that reach.",
    ),
)
