#include "zloop/shared_buffer.hpp"

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "support/allocation.hpp"
#include "support/catch.hpp"

namespace {

using zloop::CacheLine;
using zloop::Loan;
using zloop::SharedBuffer;
using zloop::test::with_allocations;

constexpr std::size_t size = std::size_t{64} * 1024;

TEST_CASE("memory is made when it is first asked for, and lent again when it has come back") {
  SharedBuffer buffer(size);
  CHECK(buffer.size() == size);
  char* memory = nullptr;
  {
    const Loan loan(buffer);
    memory = loan.data();
    REQUIRE(memory != nullptr);
    CHECK(reinterpret_cast<std::uintptr_t>(memory) % alignof(CacheLine) == 0);
    std::memset(memory, 'x', size);
  }
  CHECK(with_allocations(0, [&] { return Loan(buffer).data(); }) == memory);
}

TEST_CASE("without memory there is no loan, and later there is one") {
  SharedBuffer buffer(size);
  CHECK(with_allocations(0, [&] { return Loan(buffer).data(); }) == nullptr);
  CHECK(Loan(buffer).data() != nullptr);
}

TEST_CASE("who asks while it is lent gets other memory, and what is in the first stays") {
  SharedBuffer buffer(size);
  const Loan outer(buffer);
  std::memset(outer.data(), 'o', size);
  for (int i = 0; i < 3; ++i) {
    const Loan inner(buffer);
    REQUIRE(inner.data() != nullptr);
    REQUIRE(inner.data() != outer.data());
    std::memset(inner.data(), 'i', size);
  }
  CHECK((std::string(outer.data(), size) == std::string(size, 'o')));
  CHECK(with_allocations(0, [&] { return Loan(buffer).data(); }) != nullptr);
}

TEST_CASE("of what was lent at one time, one is kept, in whatever order it comes back") {
  SharedBuffer buffer(size);
  const bool first_ends_first = GENERATE(true, false);
  Loan first(buffer);
  Loan second(buffer);
  (first_ends_first ? first : second).end();
  (first_ends_first ? second : first).end();
  const Loan kept(buffer);
  CHECK(kept.data() != nullptr);
  CHECK(with_allocations(0, [&] { return Loan(buffer).data(); }) == nullptr);
}

TEST_CASE("a loan ends once, and may begin again") {
  SharedBuffer buffer(size);
  Loan loan;
  loan.end();
  CHECK(loan.data() == nullptr);
  char* memory = loan.begin(buffer);
  REQUIRE(memory != nullptr);
  loan.end();
  loan.end();
  CHECK(loan.data() == nullptr);
  CHECK(loan.begin(buffer) == memory);
}

#ifndef NDEBUG
TEST_CASE("what has been given back is not what it was, in a debug build") {
  SharedBuffer buffer(size);
  char* memory = nullptr;
  {
    const Loan loan(buffer);
    memory = loan.data();
    REQUIRE(memory != nullptr);
    std::memcpy(memory, "secret", sizeof("secret"));
  }
  const Loan loan(buffer);
  REQUIRE(loan.data() == memory);
  CHECK(std::memcmp(memory, "secret", 6) != 0);
}
#endif

}  // namespace
