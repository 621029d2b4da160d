#include "zloop/radix_sort.hpp"

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <random>
#include <vector>

#include "support/allocation.hpp"
#include "support/catch.hpp"

namespace {

using zloop::radix_sort;
using zloop::test::with_allocations;

struct Item {
  std::int64_t key;
  std::size_t number;

  // By key, and equal keys as they were numbered: what a stable sort makes of numbered items.
  friend auto operator<=>(const Item&, const Item&) = default;
};

std::vector<Item> items_of(const std::vector<std::int64_t>& keys) {
  std::vector<Item> items;
  items.reserve(keys.size());
  for (const std::int64_t key : keys) items.push_back({.key = key, .number = items.size()});
  return items;
}

void check_sorted(const std::vector<std::int64_t>& keys) {
  std::vector<Item> items = items_of(keys);
  std::vector<Item> expected = items;
  std::ranges::sort(expected);
  radix_sort(items, [](const Item& item) { return item.key; });
  CHECK(items == expected);
}

TEST_CASE("a radix sort agrees with a stable sort by comparison") {
  std::mt19937_64 random(20240229);
  for (const int bits : {0, 1, 8, 9, 17, 40}) {
    const std::int64_t range = std::int64_t{1} << bits;
    for (const std::size_t count : {0U, 1U, 2U, 3U, 1000U}) {
      std::uniform_int_distribution<std::int64_t> key(-range / 2, range);
      std::vector<std::int64_t> keys(count);
      std::ranges::generate(keys, [&] { return key(random); });
      CAPTURE(range, count);
      check_sorted(keys);
    }
  }
}

TEST_CASE("a radix sort takes the whole range of keys") {
  using Limits = std::numeric_limits<std::int64_t>;
  check_sorted({Limits::max(), 0, Limits::min(), -1, 1, Limits::max(), Limits::min()});
}

TEST_CASE("a radix sort without memory changes nothing") {
  std::vector<Item> items = items_of({3, 1, 2});
  const std::vector<Item> before = items;
  const auto sort = [&] { radix_sort(items, [](const Item& item) { return item.key; }); };
  REQUIRE_THROWS_AS(with_allocations(0, sort), std::bad_alloc);
  CHECK(items == before);
}

}  // namespace
