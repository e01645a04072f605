"""Rules and alerts: valid, shown firing and clearing, explained."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from expressions import ALERTS, PROMETHEUS, RULES, alerts
from tests.conftest import REPO

from upscaled_server.app import SETTINGS

NAMES = sorted({rule["alert"] for rule in alerts()})
CASES = sorted((PROMETHEUS / "tests").glob("*.yaml"))


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("needs promtool, which comes with Prometheus")
    return found


def test_rules_alerts_and_the_example_are_valid(promtool: str) -> None:
    for arguments in (["rules", str(RULES), str(ALERTS)], ["config", str(PROMETHEUS / "prometheus.yaml")]):
        done = subprocess.run([promtool, "check", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(600)  # half a minute of work, on a machine that may be busy with other tests
@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.stem)
def test_the_alerts_fire_and_clear_as_the_cases_say(promtool: str, cases: Path) -> None:
    done = subprocess.run(
        [promtool, "test", "rules", str(cases)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_each_alert_has_a_case_where_it_fires_and_one_where_it_clears_again(name: str) -> None:
    ends = [
        _fires_then_clears(case, name) for path in CASES for case in yaml.safe_load(path.read_text())["tests"]
    ]
    assert any(ends), f"no case of deploy/prometheus/tests shows {name} firing and clear again later"


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_each_alert_says_how_urgent_it_is_and_leads_to_a_runbook(rule: dict[str, dict[str, str]]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert {"summary", "description", "runbook_url"} == rule["annotations"].keys()
    path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert anchor == str(rule["alert"]).lower()
    headings = re.findall(r"^## (.+)$", (REPO / path).read_text(), re.MULTILINE)
    assert anchor in [heading.lower() for heading in headings]


def test_each_window_and_severity_of_the_error_budget_has_a_case() -> None:
    """An alert of several rules is one name: each of the rules must have fired somewhere."""
    shown = {
        (check["alertname"], *sorted(each["exp_labels"].items()))
        for path in CASES
        for case in yaml.safe_load(path.read_text())["tests"]
        for check in case["alert_rule_test"]
        for each in check["exp_alerts"]
    }
    for rule in alerts():
        labels = set(rule["labels"].items())
        assert any(name == rule["alert"] and labels <= set(rest) for name, *rest in shown), rule["labels"]


def test_the_runbooks_have_no_entry_without_an_alert_and_name_only_settings_that_there_are() -> None:
    text = (REPO / "docs" / "runbooks.md").read_text()
    assert sorted(re.findall(r"^## (.+)$", text, re.MULTILINE)) == NAMES
    named = set(re.findall(r"UPSCALED_[A-Z_]*[A-Z]", text + ALERTS.read_text()))
    assert named <= _settings()


def test_the_page_of_objectives_says_what_the_alerts_watch() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| ([\d.]+) \| (\d+) (\w+) and (\d+) (\w+) \| [\d.]+% \| (\w+) \|$",
        (REPO / "docs" / "slo.md").read_text(),
        re.MULTILINE,
    )
    budgets = {"UpscaledErrorBudgetBurn": "0.001", "UpscaledLatencyBudgetBurn": "0.05"}
    watched = [rule for rule in alerts() if rule["alert"] in budgets]
    assert len(rows) == len(watched)
    for (name, rate, long, long_unit, short, short_unit, severity), rule in zip(rows, watched, strict=True):
        bound = budgets[name] if rate == "1" else f"{rate} * {budgets[name]}"
        windows = f"{long}{long_unit[0]}", f"{short}{short_unit[0]}"
        assert (rule["alert"], rule["labels"]) == (name, {"severity": severity, "window": windows[0]})
        for window in windows:
            assert re.search(rf":ratio{window} > {re.escape(bound)}(\s|$)", rule["expr"]), rule["expr"]


def _fires_then_clears(case: dict[str, list[dict[str, object]]], name: str) -> bool:
    checks = [each for each in case["alert_rule_test"] if each["alertname"] == name]
    fired = [_minutes(str(each["eval_time"])) for each in checks if each["exp_alerts"]]
    clear = [_minutes(str(each["eval_time"])) for each in checks if not each["exp_alerts"]]
    return bool(fired and clear) and max(clear) > min(fired)


def _minutes(duration: str) -> int:
    return sum(int(count) * {"m": 1, "h": 60}[unit] for count, unit in re.findall(r"(\d+)([mh])", duration))


def _settings() -> set[str]:
    return {
        f"{kind.model_config.get('env_prefix', '')}{field}".upper()
        for kind in SETTINGS
        for field in kind.model_fields
    }


def test_the_commands_of_the_readme_make_rules_for_the_operator(tmp_path: Path) -> None:
    readme = (PROMETHEUS / "README.md").read_text()
    script = readme.split("```sh\n")[1].split("```")[0].replace("deploy/prometheus", str(PROMETHEUS))
    subprocess.run(["sh", "-eu", "-c", script], cwd=tmp_path, check=True)
    found = list(yaml.safe_load_all((tmp_path / "upscaled-rules.yaml").read_text()))
    assert [each["metadata"]["name"] for each in found] == ["upscaled-rules", "upscaled-alerts"]
    assert [each["spec"] for each in found] == [yaml.safe_load(path.read_text()) for path in (RULES, ALERTS)]
