"""Who looks for the tests of a module finds them: under the module's own path and name, or by this map."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
SERVICES = ("dumper", "uploader", "builder", "indexer", "api")
PACKAGES = {"sourcebook": ROOT / "shared" / "sourcebook"} | {
    service: ROOT / "services" / service / f"sourcebook_{service}" for service in SERVICES
}

# A module without a test file of its own, or a folder of such modules, and the file that tests it first.
ELSEWHERE = {
    "sourcebook/backends/celery": "contract/test_bus.py",
    "sourcebook/backends/checksums.py": "contract/test_documents_damage.py",
    "sourcebook/backends/fitting.py": "contract/test_documents_bounds.py",
    "sourcebook/backends/inline": "contract/test_bus.py",
    "sourcebook/backends/lmdb": "contract/test_documents.py",
    "sourcebook/backends/lmdb/check.py": "contract/test_documents_damage.py",
    "sourcebook/backends/local": "contract/test_files.py",
    "sourcebook/backends/mongo": "contract/test_mongodb.py",
    "sourcebook/backends/mongo/scan.py": "contract/test_mongo_indexes.py",
    "sourcebook/backends/opensearch": "sourcebook/backends/opensearch/test_search.py",
    "sourcebook/backends/redis": "contract/test_redis_locks.py",
    "sourcebook/backends/s3": "contract/test_s3.py",
    "sourcebook/backends/tantivy": "contract/test_search.py",
    "sourcebook/backends/tantivy/automata.py": "sourcebook/backends/tantivy/test_patterns.py",
    "sourcebook/backends/tantivy/hits.py": "sourcebook/backends/tantivy/test_search.py",
    "sourcebook/backends/tantivy/ids.py": "sourcebook/backends/tantivy/test_patch.py",
    "sourcebook/backends/tantivy/sort.py": "sourcebook/backends/tantivy/test_ties.py",
    "sourcebook/celeryapp.py": "e2e/test_stop.py",
    "sourcebook/cli": "sourcebook/cli/test_commands.py",
    "sourcebook/cli/app.py": "sourcebook/cli/test_program.py",
    "sourcebook/cli/builds.py": "sourcebook/cli/test_configs.py",
    "sourcebook/cli/editor.py": "sourcebook/cli/test_configs.py",
    "sourcebook/cli/lazy.py": "sourcebook/cli/test_program.py",
    "sourcebook/cli/run.py": "sourcebook/cli/test_program.py",
    "sourcebook/cli/stack.py": "e2e/test_up.py",
    "sourcebook/context.py": "flow/test_genes.py",
    "sourcebook/flow": "sourcebook/test_worker.py",
    "sourcebook/hub/builds": "sourcebook/hub/builds/test_commands.py",
    "sourcebook/hub/changes/answers.py": "builder/test_diff.py",
    "sourcebook/hub/changes/compare.py": "builder/test_diff.py",
    "sourcebook/hub/documents/answers.py": "sourcebook/cli/test_documents.py",
    "sourcebook/hub/jobs": "sourcebook/test_worker.py",
    "sourcebook/hub/publishing/answers.py": "sourcebook/hub/publishing/test_commands.py",
    "sourcebook/hub/releases": "indexer/test_patch.py",
    "sourcebook/hub/releases/commands.py": "api/test_releases.py",
    "sourcebook/hub/schedules/clock.py": "sourcebook/hub/schedules/test_commands.py",
    "sourcebook/hub/schedules/model.py": "sourcebook/hub/schedules/test_commands.py",
    "sourcebook/hub/sources": "sourcebook/hub/sources/test_commands.py",
    "sourcebook/hub/sources/check.py": "uploader/test_inspection.py",
    "sourcebook/hub/upkeep/verify.py": "builder/test_verify.py",
    "sourcebook/language/field_hints.py": "contract/test_search.py",
    "sourcebook/language/requests.py": "contract/test_search.py",
    "sourcebook/metrics.py": "api/test_metrics.py",
    "sourcebook/ports/bus.py": "contract/test_bus.py",
    "sourcebook/ports/documents.py": "contract/test_documents.py",
    "sourcebook/ports/files.py": "contract/test_files.py",
    "sourcebook/ports/locks.py": "contract/test_locks.py",
    "sourcebook/ports/search.py": "contract/test_search.py",
    "sourcebook/ports/state.py": "contract/test_state.py",
    "sourcebook/references.py": "sourcebook/test_worker.py",
    "sourcebook/sdk/call.py": "sourcebook/sdk/test_process.py",
    "sourcebook/sdk/checks.py": "sourcebook/sdk/test_manifest.py",
    "sourcebook/sdk/code_digest.py": "sourcebook/sdk/test_plugins.py",
    "sourcebook/sdk/manifest_file.py": "sourcebook/sdk/test_manifest.py",
    "dumper/archives.py": "dumper/test_unpack.py",
    "dumper/fetchers": "dumper/test_dump.py",
    "dumper/fetchers/answers.py": "dumper/test_http_fetcher.py",
    "dumper/fetchers/ftp.py": "dumper/test_ftp.py",
    "dumper/fetchers/git.py": "dumper/test_git.py",
    "dumper/fetchers/http.py": "dumper/test_http.py",
    "dumper/fetchers/local.py": "dumper/test_local.py",
    "dumper/fetchers/partial.py": "dumper/test_http.py",
    "dumper/fetchers/s3.py": "dumper/test_s3.py",
    "dumper/headers.py": "dumper/test_http.py",
    "dumper/progress.py": "dumper/test_unpack.py",
    "dumper/tasks.py": "dumper/test_dump.py",
    "uploader/changes.py": "uploader/test_upload.py",
    "uploader/dates.py": "uploader/test_infer.py",
    "uploader/describe.py": "uploader/test_infer.py",
    "uploader/fields.py": "uploader/test_infer.py",
    "uploader/sample.py": "uploader/test_inspection.py",
    "uploader/tasks.py": "uploader/test_upload.py",
    "uploader/validate.py": "uploader/test_parse.py",
    "builder/build/plan.py": "builder/build/test_ranges.py",
    "builder/build/select.py": "builder/build/test_build.py",
    "builder/publishing": "builder/publishing/test_publish.py",
    "builder/publishing/address.py": "builder/publishing/test_install.py",
    "builder/tasks.py": "builder/build/test_build.py",
    "indexer/cleanup.py": "indexer/test_index.py",
    "indexer/rollover.py": "indexer/test_index.py",
    "indexer/tasks.py": "indexer/test_index.py",
    "indexer/touched.py": "indexer/test_patch.py",
    "indexer/verify.py": "indexer/test_index.py",
    "api/app.py": "api/test_hub.py",
    "api/console.py": "api/test_hub.py",
    "api/dependencies.py": "api/test_hub.py",
    "api/errors.py": "api/test_hub.py",
    "api/front.py": "api/test_hostile.py",
    "api/health.py": "api/test_engines_away.py",
    "api/query": "api/test_query_answers.py",
    "api/query/budget.py": "api/test_query_budget.py",
    "api/query/encode.py": "api/test_query_http.py",
    "api/query/endpoint.py": "api/test_query_http.py",
    "api/query/examples.py": "api/test_docs_page.py",
    "api/query/openapi.py": "api/test_schemas.py",
    "api/query/params.py": "api/test_values.py",
    "api/query/plan.py": "api/test_plan.py",
    "api/query/reference.py": "api/test_values.py",
    "api/query/releases.py": "api/test_releases.py",
    "api/query/routes.py": "api/test_query_routes.py",
    "api/query/scroll.py": "api/test_scroll.py",
    "api/query/shape.py": "api/test_shape.py",
    "api/query/turns.py": "api/test_turns.py",
    "api/query/values.py": "api/test_values.py",
    "api/requests.py": "api/test_hostile.py",
    "api/routers": "api/test_hub.py",
    "api/routers/plugins.py": "api/test_plugin_folders.py",
    "api/routers/publishing.py": "api/test_publishing.py",
    "api/routers/releases.py": "api/test_releases.py",
    "api/routers/upkeep.py": "api/test_upkeep.py",
    "api/security.py": "api/test_hostile.py",
}


def list_modules() -> list[Path]:
    """Every module that is more than a package's one line, by its path below `tests`."""
    return [
        Path(package, path.relative_to(folder))
        for package, folder in PACKAGES.items()
        for path in sorted(folder.rglob("*.py"))
        if path.name not in {"__init__.py", "__main__.py"}
    ]


def find_own_test(module: Path) -> Path:
    return TESTS / module.parent / f"test_{module.name}"


def find_entry(module: Path) -> str | None:
    """The entry that tells where a module without tests of its own is tested: that of the module, or of its folder."""
    return next((str(place) for place in (module, module.parent) if str(place) in ELSEWHERE), None)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_has_a_test_file_or_an_entry(package: str) -> None:
    modules = [module for module in list_modules() if module.parts[0] == package]
    assert modules
    lost = [str(module) for module in modules if not find_own_test(module).is_file() and find_entry(module) is None]
    assert lost == [], "add tests/<path>/test_<name>.py, or an entry here"


def test_every_entry_is_needed_and_names_what_exists() -> None:
    modules = list_modules()
    used = {find_entry(module) for module in modules if not find_own_test(module).is_file()}
    assert sorted(ELSEWHERE.keys() - used) == []
    assert [test for test in ELSEWHERE.values() if not (TESTS / test).is_file()] == []
