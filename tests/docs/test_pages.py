"""README and docs as pages: links, length, glossary, and that settings and methods are all described."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from evalkit.config.choices import CONF
from tests.support.documents import PAGES, ROOT, anchors, prose, text

DOCS = [page for page in PAGES if page.startswith("docs/")]
GLOSSARY = "docs/glossary.md"
GROUPS = sorted(folder.name for folder in CONF.iterdir() if folder.is_dir())


def links(page: str) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for link in links(page):
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / file).resolve() if file else ROOT / page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if anchor:
            assert anchor in anchors(target.relative_to(ROOT).as_posix()), link


def test_readme_is_short_and_starts_with_a_picture() -> None:
    lines = text("README.md").splitlines()
    assert len(lines) <= 150
    assert next(i for i, line in enumerate(lines) if line.startswith("![")) < 8


def test_readme_leads_to_every_page() -> None:
    linked = {link.partition("#")[0] for link in links("README.md")}
    assert {*DOCS, "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "docs/new_method.ipynb"} <= linked


@pytest.mark.parametrize("page", [*DOCS, "README.md", "CONTRIBUTING.md"])
def test_choices_that_are_named_exist(page: str) -> None:
    for group in GROUPS:
        known = {file.stem for file in (CONF / group).glob("*.yaml")} | {"NAME", "DIR"}
        without_code = re.sub(r"```python\n.*?```", "", text(page), flags=re.S)
        for value in re.findall(rf"(?<![\w.@]){group}=([\w|\\]+)", without_code):
            assert set(re.split(r"\\?\|", value)) <= known, f"{group}={value}"


def test_every_setting_is_described() -> None:
    described = text("docs/settings.md")
    settings = set(OmegaConf.load(CONF / "config.yaml")) - {"defaults", "hydra"}
    assert not sorted(name for name in settings | {"experiment"} if not re.search(rf"`[^`]*\b{name}\b", described))
    tuning = set(OmegaConf.load(CONF / "tune.yaml")) - {"defaults", "builtin"}
    assert not sorted(name for name in tuning if not re.search(rf"`[^`]*\b{name}\b", text("docs/tuning.md")))


def test_every_choice_is_described() -> None:
    for group, page in (
        ("backbone", "backbones"),
        ("sampling", "backbones"),
        ("benchmark", "benchmarks_and_protocols"),
    ):
        for file in (CONF / group).glob("*.yaml"):
            assert f"`{file.stem}`" in text(f"docs/{page}.md"), file


@pytest.mark.parametrize("file", sorted((CONF / "method").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_method_and_its_fields_are_described(file: Path) -> None:
    described = text("docs/methods.md")
    fields = set(OmegaConf.load(file)) - {"name", "_target_"}
    assert not sorted(name for name in {file.stem, *map(str, fields)} if f"`{name}`" not in described)


# ---- glossary


def terms() -> list[str]:
    """The terms that are defined, without the names in the code."""
    heads = re.findall(r"^- (.+?) – ", text(GLOSSARY), re.M)
    return [term for head in heads for bold in re.findall(r"\*\*(.+?)\*\*", head) for term in bold.split(", ")]


def test_the_glossary_defines_each_term_once_in_order() -> None:
    found = [term.casefold() for term in terms()]
    assert len(found) > 80
    assert len(set(found)) == len(found)
    firsts = re.findall(r"^- \*\*(.+?)\*\*", text(GLOSSARY), re.M)
    keys = [re.sub(r"[^a-z0-9 ]", "", term.casefold().replace("δ", "delta")).strip() for term in firsts]
    assert keys == sorted(keys)
    entries = [line for line in text(GLOSSARY).splitlines() if line.startswith("- ")]
    assert len(entries) == len(firsts) == len(re.findall(r"^- .+? – .+\.$", text(GLOSSARY), re.M))


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\(`(\w+)`\)", text(GLOSSARY)))))
def test_names_in_the_glossary_are_names_in_the_code(name: str) -> None:
    sources = (file for folder in ("evalkit", "methods") for file in (ROOT / folder).rglob("*.py"))
    assert any(re.search(rf"\b{name}\b", file.read_text(encoding="utf-8")) for file in sources)


# ---- files for GitHub and others


def test_citation_has_what_cff_1_2_asks_for() -> None:
    cited = yaml.safe_load(text("CITATION.cff"))
    assert cited["cff-version"] == "1.2.0"
    assert all(cited[key] for key in ("message", "title", "authors"))
    assert cited["type"] == "software"
    for reference in cited["references"]:
        assert all(reference[key] for key in ("authors", "title", "type")), reference
        assert all({"name"} == set(a) or {"family-names", "given-names"} == set(a) for a in reference["authors"])


def test_citation_names_the_papers_of_methods_and_benchmarks() -> None:
    papers = set(re.findall(r"arXiv (\d{4}\.\d{5})", text("docs/methods.md")))
    for file in (CONF / "benchmark").glob("*.yaml"):
        papers |= set(re.findall(r"arXiv (\d{4}\.\d{5})", file.read_text(encoding="utf-8")))
    assert len(papers) >= 5
    assert all(paper in text("CITATION.cff") for paper in papers)


def test_issue_forms_are_forms() -> None:
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert [form.stem for form in forms] == ["bug", "config", "new_method", "numbers"]
    for file in forms:
        form = yaml.safe_load(file.read_text(encoding="utf-8"))
        if file.stem == "config":
            continue
        assert form["name"]
        assert form["description"]
        asked = [part for part in form["body"] if part["type"] != "markdown"]
        assert len({part["id"] for part in asked}) == len(asked)
        assert all(part["attributes"]["label"] for part in asked)
    assert "(new method)" in text(".github/PULL_REQUEST_TEMPLATE.md")


def test_hooks_run_tools_of_the_environment() -> None:
    hooks = yaml.safe_load(text(".pre-commit-config.yaml"))
    assert [repository["repo"] for repository in hooks["repos"]] == ["local"]
    assert {hook["id"] for hook in hooks["repos"][0]["hooks"]} >= {"ruff-check", "ruff-format", "mypy", "large-files"}
    assert all(hook["language"] == "system" for hook in hooks["repos"][0]["hooks"])


def test_the_notebook_holds_no_outputs() -> None:
    notebook = json.loads(text("docs/new_method.ipynb"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


def test_promises_name_tests_that_are_there() -> None:
    file = ""
    named = re.findall(r"`(tests/[\w/]+\.py)?::(\w+)`", text("docs/reliability.md"))
    assert len(named) > 25
    for own, test in named:
        file = own or file
        assert f"def {test}(" in text(file), f"{file}::{test}"
