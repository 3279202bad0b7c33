"""What the README promises is what is run."""

from pathlib import Path

ROOT = Path(__file__).parent.parent


def commands() -> list[str]:
    """Every line of the README's code blocks that is a command."""
    blocks = (ROOT / "README.md").read_text(encoding="utf-8").split("```")[1::2]
    return [line for block in blocks for line in block.splitlines() if line.startswith("python")]


def test_ci_runs_the_readmes_test_command():
    tests = [command for command in commands() if command.endswith("-m pytest")]
    assert len(tests) == 1
    assert tests[0] in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_every_launcher_is_documented_and_exists():
    named = {word for command in commands() for word in command.split() if word.startswith("launch.")}
    launchers = {f"launch.{path.stem}" for path in (ROOT / "launch").glob("*.py")}
    assert named <= launchers
    parts = {
        "__init__",
        "boot",
        "inputs",
        "image_sets",
        "training",
        "profiling",
        "sampling",
        "latents",
        "monitor",
        "embedding",
        "detecting",
        "measuring",
        "hosts",
        "rollcall",
        "watch",
    }
    assert launchers - {f"launch.{part}" for part in parts} <= named


def test_every_flag_of_the_readme_exists():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "launch").glob("*.py"))
    roles = ("train", "synthetic", "heldout")
    for piece in text.split("--")[1:]:
        flag = "".join(takewhile_name(piece))
        assert f'"{flag}"' in sources or flag in roles, flag


def takewhile_name(text: str) -> list[str]:
    name = []
    for letter in text:
        if not (letter.isalnum() or letter == "_"):
            break
        name.append(letter)
    return name


def test_constraints_pin_everything_and_name_no_host():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(line.count("==") == 1 for line in pins)
    assert not any("/" in line for line in lines)
    assert {"jax==0.10.2", "flax==0.12.8"} <= set(pins)
