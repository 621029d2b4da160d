# Fails if the engine has a static that can change, other than those in `allowed`:
#
#   cmake -DNM=nm -DLIBRARY=libzloop_engine.a -P statics.cmake
#
# The engine is linked into each extension module, and each of them has its own copy of what is static. State that two
# copies would have to agree on belongs to an object: a Reactor, a stream, a TLS session. Needs the nm of GNU or LLVM, and
# a library of ELF objects.
cmake_minimum_required(VERSION 3.22)

set(allowed
  # The functions of the process's one OpenSSL, looked up once under the compiler's lock. Every copy finds the same.
  "zloop::OpenSsl::load(char const*)::table"
  "zloop::OpenSsl::load(char const*)::complete"
  "guard variable for zloop::OpenSsl::load(char const*)::complete"
  # The BIO method made of them, and what its callbacks, which OpenSSL gives nothing else, find them by.
  "zloop::TlsSessionBio::openssl"
  "zloop::TlsSessionBio::method(zloop::OpenSsl const&)::made"
  "guard variable for zloop::TlsSessionBio::method(zloop::OpenSsl const&)::made")

# The counts of live objects in a debug build: the dynamic linker makes one of all the copies.
foreach(live_class RANGE 4)
  list(APPEND allowed "zloop::LiveCount<(zloop::LiveClass)${live_class}>::count")
endforeach()

execute_process(COMMAND ${NM} --demangle --format=sysv --defined-only ${LIBRARY}
  OUTPUT_VARIABLE listing COMMAND_ERROR_IS_FATAL ANY)
string(REPLACE ";" "," listing "${listing}")
string(REPLACE "\n" ";" lines "${listing}")
set(seen 0)
set(violations)
foreach(line IN LISTS lines)
  # Name, value, class, type, size, line and section, with bars between.
  if(NOT line MATCHES "^([^|]*[^| ]) *\\|[^|]*\\|[^|]*\\| *(OBJECT|TLS)\\|[^|]*\\|[^|]*\\|(.*)$")
    continue()
  endif()
  set(name "${CMAKE_MATCH_1}")
  set(section "${CMAKE_MATCH_3}")
  math(EXPR seen "${seen} + 1")
  # Written by the dynamic linker alone: addresses in what is constant, and in what the compiler's tables refer to.
  if(section MATCHES "^\\.(rodata|data\\.rel\\.ro|data\\.rel\\.local\\.DW\\.ref\\.)" OR name IN_LIST allowed)
    continue()
  endif()
  list(APPEND violations "${name} in ${section}")
endforeach()
if(seen EQUAL 0)
  message(FATAL_ERROR "${NM} tells of no object in ${LIBRARY}")
endif()
if(violations)
  list(JOIN violations "\n  " text)
  message(FATAL_ERROR "statics that can change, and are not allowed:\n  ${text}")
endif()
