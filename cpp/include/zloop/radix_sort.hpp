// A stable radix sort, one byte of the key at a time, from the lowest byte on.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

namespace zloop {

// Sorts by key_of(item), a std::int64_t; items with equal keys keep their order. Makes one pass for each byte in which
// the keys may differ. Throws std::bad_alloc; the items are unchanged then.
template <typename T, typename KeyOf>
void radix_sort(std::vector<T>& items, KeyOf key_of) {
  if (items.empty()) return;
  const auto unsigned_key_of = [&](const T& item) { return static_cast<std::uint64_t>(key_of(item)); };
  std::int64_t lowest = key_of(items.front());
  std::int64_t highest = lowest;
  for (const T& item : items) {
    lowest = std::min(lowest, key_of(item));
    highest = std::max(highest, key_of(item));
  }
  const auto least = static_cast<std::uint64_t>(lowest);
  const std::uint64_t range = static_cast<std::uint64_t>(highest) - least;
  std::vector<T> sorted = items;  // has the size of `items`; each pass overwrites every element
  for (unsigned shift = 0; shift < 64 && range >> shift != 0; shift += 8) {
    const auto byte_of = [&](const T& item) { return ((unsigned_key_of(item) - least) >> shift) & 0xff; };
    std::array<std::size_t, 257> next{};  // by the byte's value: the index of the next item with it in `sorted`
    for (const T& item : items) ++next[byte_of(item) + 1];
    std::partial_sum(next.begin(), next.end(), next.begin());
    for (const T& item : items) sorted[next[byte_of(item)]++] = item;
    items.swap(sorted);
  }
}

}  // namespace zloop
