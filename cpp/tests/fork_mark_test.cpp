#include "zloop/fork_mark.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "support/catch.hpp"
#include "support/child.hpp"
#include "support/interposer.hpp"

namespace {

using zloop::ForkMark;
using zloop::test::Interposer;

// True if the mark tells that it was inherited before the child sets it, and not afterwards.
bool child_finds_inherited(ForkMark& mark) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const bool inherited = mark.inherited();
    mark.set();
    zloop::test::end_child(inherited && !mark.inherited() ? 0 : 1);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  return status == 0;
}

TEST_CASE("a mark is inherited in the child of each fork, until it is set there") {
  ForkMark mark;
  mark.set();
  CHECK_FALSE(mark.inherited());
  CHECK(child_finds_inherited(mark));
  CHECK_FALSE(mark.inherited());
  CHECK(child_finds_inherited(mark));
}

TEST_CASE("without memory that a fork clears, a mark goes by the process id", "[linux]") {
  std::optional<ForkMark> mark(std::in_place);
  Interposer kernel;
  SECTION("there is no memory") {
    kernel.memory_map.errors = {ENOMEM};
    mark->set();
    CHECK(kernel.memory_map.count == 1);
    CHECK(kernel.memory_unmap.count == 0);
  }
  SECTION("the kernel does not know the advice, and the memory is returned") {
    kernel.memory_advise.errors = {EINVAL};
    mark->set();
    CHECK(kernel.memory_advise.count == 1);
    CHECK(kernel.memory_unmap.count == 1);
  }
  CHECK_FALSE(mark->inherited());
  const int unmapped = kernel.memory_unmap.count;
  mark.reset();
  CHECK(kernel.memory_unmap.count == unmapped);
}

TEST_CASE("a mark by the process id is inherited, too", "[linux]") {
  ForkMark mark;
  {
    Interposer kernel;
    kernel.memory_map.errors = {ENOMEM};
    mark.set();
  }
  CHECK_FALSE(mark.inherited());
  CHECK(child_finds_inherited(mark));
}

TEST_CASE("a mark that goes returns its memory", "[linux]") {
  std::optional<ForkMark> mark(std::in_place);
  mark->set();
  const Interposer kernel;
  mark->set();  // again, with the memory that it has
  CHECK(kernel.memory_map.count == 0);
  mark.reset();
  CHECK(kernel.memory_unmap.count == 1);
}

}  // namespace
