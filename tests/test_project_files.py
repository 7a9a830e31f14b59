"""Files around the code agree with it: license, changelog, workflow, and the list of third-party licenses."""

import json
import re
import tomllib
from pathlib import Path

import yaml

import headway
from headway.exporter.package.snippets.writers import WRITERS
from headway.exporter.recipe.targets import TARGETS, Platform, targets_for
from headway.exporter.targets.web.target import PAGE_FILES, ROOT_FILES

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
THIRD_PARTY = (ROOT / "THIRD_PARTY_LICENSES.md").read_text(encoding="utf-8")


def test_the_license_is_the_one_declared() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License\n" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text
    assert all((ROOT / name).is_file() for name in PROJECT["license-files"])


def test_the_changelog_ends_at_this_version() -> None:
    titles = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.M)
    assert titles[0] == "Unreleased"
    assert titles[1] == headway.__version__ == PROJECT["version"]


def test_the_workflow_runs_what_developers_run() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    steps = [step.get("run") for job in workflow["jobs"].values() for step in job["steps"]]
    assert ".ci/run" in steps
    assert workflow["permissions"] == {"contents": "read"}


def test_every_npm_package_of_the_page_is_listed_with_version_and_license() -> None:
    lock = json.loads((ROOT / "exporter/targets/web/page/package-lock.json").read_text(encoding="utf-8"))
    packages = {name.removeprefix("node_modules/"): p for name, p in lock["packages"].items() if name}
    rows = {f"| `{name}` | {p['version']} | {p['license']} |" for name, p in packages.items()}
    listed = {line for line in THIRD_PARTY.splitlines() if re.match(r"\| `[^`]+` \| \d", line)}
    assert listed == rows


def test_every_runtime_that_a_package_names_is_listed() -> None:
    titles: dict[Platform, str] = {"android": "Android", "ios": "iOS"}
    for platform, title in titles.items():
        for target in targets_for(platform):
            (dependency,) = WRITERS[platform][TARGETS[target].runner].dependencies
            name = re.sub(
                r"""^implementation\("|:latest\.release"\)$|^pod '|'$|^Swift package |: .*| is part of iOS$""",
                "",
                dependency,
            )
            assert name
            rows = [row for row in THIRD_PARTY.splitlines() if row.startswith(f"| `{target}` | {title} |")]
            assert len(rows) == 1 and name.replace("CoreML", "Core ML") in rows[0], (target, platform, name)


def test_every_file_of_the_page_is_listed() -> None:
    listed = set(re.findall(r"`([^`]+)`", THIRD_PARTY))
    page = {f"web/{name}" for name in PAGE_FILES} | set(ROOT_FILES)
    assert {
        name for name in page if name not in listed and not (name.endswith(".mjs") and "web/*.mjs" in listed)
    } == set()
