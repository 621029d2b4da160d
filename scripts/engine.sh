# shellcheck shell=bash
# What building the engine without Python takes.  Source it after lib.sh.
#
#   require_cmake   put cmake and ctest on PATH, behind everything that is there already
#   fetch_catch2    fetch Catch2's header, unless it is in build/catch2; catch2_include is the directory for -I then

require_cmake() {
  local python requirements
  ! { cmake --version && ctest --version; } >/dev/null 2>&1 || return 0
  python=$(require_python)
  mapfile -t requirements < <(dependency_group "$python" cmake)
  python=$(make_venv cmake "$python" "${requirements[@]}")
  PATH=$PATH:${python%/*}
}

fetch_catch2() {
  # shellcheck disable=SC2154  # root is lib.sh's
  local target=$root/build/catch2 header python
  header=$(find "$target" -path '*/catch2/catch.hpp' 2>/dev/null || true)
  if [ -z "$header" ]; then
    step "Catch2 is not installed: fetching its header into build/catch2"
    python=$(require_python)
    # Headers alone: which Python the wheel asks for does not matter.
    run_pip catch2 "$python" install --target "$target" --upgrade --no-deps --only-binary=:all: --ignore-requires-python \
      'comma-deps-catch2==2.13.10.*'
    header=$(find "$target" -path '*/catch2/catch.hpp')
  fi
  # shellcheck disable=SC2034  # for whoever sources this
  catch2_include=${header%/catch2/catch.hpp}
}
