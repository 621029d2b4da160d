# shellcheck shell=bash
# A test run as a list of stages, each timed, its tests counted.  Source it after lib.sh.
#
#   begin_stages              start the list, which is the file $ZLOOP_STAGES: a new one, or the one that nested_stages set
#   stage NAME COMMAND...     run COMMAND and add the stage: it passed if COMMAND returned 0.  COMMAND may leave reports
#                             for count_tests: $reports is a new, empty directory for them
#   skip_stage NAME REASON    add a stage that did not run
#   nested_stages NAME COMMAND...
#                             run a COMMAND that has stages of its own, its output marked with NAME, and add those
#   any_stage_failed
#   end_stages                print the list and, as the last line, "N passed, N failed, N skipped"; returns 1 if any
#                             stage failed.  Nested, that is all it does
#
# COMMAND runs with `set -e` switched off, as every command does whose status is looked at: name a program, or a function
# that checks for itself.

begin_stages() {
  stages_begun=$SECONDS stages_are_nested=${ZLOOP_STAGES:+yes}
  # shellcheck disable=SC2154  # root is lib.sh's
  export ZLOOP_STAGES=${ZLOOP_STAGES:-$root/build/log/stages}
  mkdir -p "${ZLOOP_STAGES%/*}"
  : >"$ZLOOP_STAGES"
}

# NAME RESULT SECONDS PASSED FAILED SKIPPED REMARK
add_stage() {
  local IFS=$'\t'
  printf '%s\n' "$*" >>"$ZLOOP_STAGES"
}

stage() {
  local name=$1 began=$SECONDS result=passed passed failed skipped
  shift
  export reports=$ZLOOP_STAGES.reports
  rm -rf "$reports"
  mkdir -p "$reports"
  step "$name"
  "$@" || result=failed
  read -r passed failed skipped < <(count_tests "$reports")
  # What failed without a test to show for it counts as one.
  [ "$result" = passed ] || [ "$failed" -gt 0 ] || failed=1
  add_stage "$name" "$result" "$((SECONDS - began))" "$passed" "$failed" "$skipped" ""
  step "$name: $result after $((SECONDS - began)) s"
}

skip_stage() {
  step "$1: skipped, $2"
  add_stage "$1" skipped 0 0 0 0 "$2"
}

any_stage_failed() {
  cut -f 2 "$ZLOOP_STAGES" | grep -q failed
}

nested_stages() {
  local name=$1 outer=$ZLOOP_STAGES status=0
  local -x ZLOOP_STAGES=$outer.$1
  shift
  : >"$ZLOOP_STAGES"
  "$@" 2>&1 | sed --unbuffered "s/^/$name | /" || status=$?
  # It may have ended before its first stage did.
  [ "$status" -eq 0 ] || any_stage_failed || add_stage "$name" failed 0 0 1 0 ""
  cat "$ZLOOP_STAGES" >>"$outer"
}

# Prints "PASSED FAILED SKIPPED" over the reports in the directory $1: JUnit's XML, and the JSON of tests/conformance
# and tests/downstream, where what is neither passed nor failed has several names.
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
        skipped = sum(verdicts[name] for name in ("skipped", "excluded", "flaky", "surplus", "listed"))
        counts += Counter(passed=verdicts["passed"], failed=verdicts["failed"], skipped=skipped)
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
  if [ -n "$stages_are_nested" ]; then
    ! any_stage_failed
    return
  fi
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
  ! any_stage_failed
}
