# Cross-compiles by zig, a C++ compiler that carries the headers and libraries of many systems. Set:
#
#   ZLOOP_ZIG          the program (the package ziglang brings it)
#   ZLOOP_ZIG_TARGET   processor and system as zig calls them: aarch64-macos, x86_64-freebsd, aarch64-linux-musl, ...
#   CMAKE_SYSTEM_NAME  the system as CMake calls it: Darwin, FreeBSD, Linux
set(CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ZLOOP_ZIG ZLOOP_ZIG_TARGET)

string(REGEX REPLACE "-.*" "" CMAKE_SYSTEM_PROCESSOR ${ZLOOP_ZIG_TARGET})
set(CMAKE_C_COMPILER ${ZLOOP_ZIG} cc -target ${ZLOOP_ZIG_TARGET})
set(CMAKE_CXX_COMPILER ${ZLOOP_ZIG} c++ -target ${ZLOOP_ZIG_TARGET})
# This machine's ar does not know every format.
set(CMAKE_CXX_ARCHIVE_CREATE "\"${ZLOOP_ZIG}\" ar qc <TARGET> <OBJECTS>")
set(CMAKE_CXX_ARCHIVE_FINISH "\"${ZLOOP_ZIG}\" ranlib <TARGET>")

if(CMAKE_SYSTEM_NAME STREQUAL "Darwin")
  # CMake insists on one for a system that has it. There is none in zig, and nothing is installed.
  set(CMAKE_INSTALL_NAME_TOOL true)
  # <math.h> of these headers has <float.h> define INFINITY and nothing else, and what includes that later finds it done.
  set(CMAKE_CXX_FLAGS_INIT "-include __float_float.h")
endif()
