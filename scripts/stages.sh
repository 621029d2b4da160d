# shellcheck shell=bash
# A test run as a list of stages, each timed, its tests counted.  Source it after lib.sh.
#
#   begin_stages              start the list, unless this script was started by one that keeps it already
#   stage NAME COMMAND...     run COMMAND and add the stage: it passed if COMMAND returned 0.  COMMAND may leave reports
#                             for count_tests: $reports is a new, empty directory for them
#   skip_stage NAME REASON    add a stage that did not run
#   nested_stages NAME COMMAND...
#                             run a COMMAND that adds stages of its own; one named NAME is added if it fails without them
#   end_stages                print the list and, as the last line, "N passed, N failed, N skipped"; returns 1 if any
#                             stage failed.  Where another script keeps the list, only that status
#
# COMMAND runs with `set -e` switched off, as every command does whose status is looked at: name a program, or a function
# that checks for itself.

begin_stages() {
  stages_begun=$SECONDS stages_failed=0 stages_kept_elsewhere=${ZLOOP_STAGES:+yes}
  if [ -z "$stages_kept_elsewhere" ]; then
    # shellcheck disable=SC2154  # root is lib.sh's
    export ZLOOP_STAGES=$root/build/log/stages.tsv
    mkdir -p "${ZLOOP_STAGES%/*}"
    : >"$ZLOOP_STAGES"
  fi
}

# NAME RESULT SECONDS PASSED FAILED SKIPPED REMARK
add_stage() {
  local IFS=$'\t'
  printf '%s\n' "$*" >>"$ZLOOP_STAGES"
}

stage() {
  local name=$1 began=$SECONDS result=passed passed failed skipped
  shift
  export reports=$root/build/log/reports
  rm -rf "$reports"
  mkdir -p "$reports"
  step "$name"
  "$@" || result=failed
  read -r passed failed skipped < <(count_tests "$reports")
  if [ "$result" = failed ]; then
    stages_failed=1
    # What failed without a test to show for it counts as one.
    [ "$failed" -gt 0 ] || failed=1
  fi
  add_stage "$name" "$result" "$((SECONDS - began))" "$passed" "$failed" "$skipped" ""
  step "$name: $result after $((SECONDS - began)) s"
}

skip_stage() {
  step "$1: skipped, $2"
  add_stage "$1" skipped 0 0 0 0 "$2"
}

count_failed_stages() {
  cut -f 2 "$ZLOOP_STAGES" | grep -c failed || true
}

nested_stages() {
  local name=$1 before
  shift
  before=$(count_failed_stages)
  "$@" && return
  stages_failed=1
  [ "$(count_failed_stages)" -gt "$before" ] || add_stage "$name" failed 0 0 1 0 ""
}

# Prints "PASSED FAILED SKIPPED" over the reports in the directory $1: JUnit's XML, and the conformance runner's JSON.
count_tests() {
  "$(require_python)" - "$1" <<'PYTHON'
import json
import pathlib
import sys
from collections import Counter
from xml.etree import ElementTree

counts = Counter()
for path in pathlib.Path(sys.argv[1]).iterdir():
    if path.suffix == ".json":
        verdicts = Counter(test["verdict"] for test in json.loads(path.read_text())["tests"])
        counts += Counter({"failed": verdicts["failed"], "skipped": verdicts["skipped"] + verdicts["excluded"]})
        counts["passed"] += verdicts["passed"]
    else:
        for suite in ElementTree.parse(path).iter("testsuite"):
            number = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped", "disabled")}
            failed, skipped = number["failures"] + number["errors"], number["skipped"] + number["disabled"]
            counts += Counter(failed=failed, skipped=skipped, passed=number["tests"] - failed - skipped)
print(counts["passed"], counts["failed"], counts["skipped"])
PYTHON
}

end_stages() {
  local name result seconds passed failed skipped remark
  local -i all_passed=0 all_failed=0 all_skipped=0
  [ -z "$stages_kept_elsewhere" ] || return "$stages_failed"
  printf '\n%-24s %-8s %8s %8s %8s %8s\n' stage result seconds passed failed skipped
  while IFS=$'\t' read -r name result seconds passed failed skipped remark; do
    if [ "$result" = skipped ]; then
      printf '%-24s %-8s %s\n' "$name" "$result" "$remark"
    else
      printf '%-24s %-8s %8d %8d %8d %8d\n' "$name" "$result" "$seconds" "$passed" "$failed" "$skipped"
    fi
    all_passed+=passed all_failed+=failed all_skipped+=skipped
  done <"$ZLOOP_STAGES"
  printf '%-24s %-8s %8d\n\n' together '' "$((SECONDS - stages_begun))"
  printf '%d passed, %d failed, %d skipped\n' "$all_passed" "$all_failed" "$all_skipped"
  [ "$all_failed" -eq 0 ]
}
