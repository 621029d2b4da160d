// Command lines as both programs take them: a word, then pairs of an option and its value.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace bench {

template <typename Value, std::size_t size>
using Table = std::array<std::pair<std::string_view, Value>, size>;

// What an option does with its value.
template <typename Options>
using Setting = void (*)(Options&, const std::string&);

// The entry with that name; throws std::invalid_argument if there is none.
template <typename Value, std::size_t size>
const Value& look_up(const Table<Value, size>& table, std::string_view name) {
  const auto found = std::ranges::find(table, name, &std::pair<std::string_view, Value>::first);
  if (found == table.end()) throw std::invalid_argument("unknown: " + std::string(name));
  return found->second;
}

// Applies the pairs that follow the first two arguments.
template <typename Options, std::size_t size>
void read_options(const Table<Setting<Options>, size>& settings, std::span<char*> arguments, Options& options) {
  if (arguments.size() < 2 || arguments.size() % 2 != 0)
    throw std::invalid_argument("WORD [OPTION VALUE]... is wanted");
  for (std::size_t i = 2; i < arguments.size(); i += 2) {
    look_up(settings, arguments[i])(options, arguments[i + 1]);
  }
}

}  // namespace bench
