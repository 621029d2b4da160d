// What the limit server does for those that connect.
#pragma once

#include <cstddef>
#include <string>

#include "channel.hpp"
#include "net.hpp"

namespace bench {

enum class Kind : unsigned char { echo, http, answer, file, sink, source, datagrams };

struct Service {
  Kind kind = Kind::echo;
  std::size_t size = 1024;  // bytes of a request, where that must be known: answer, file
  std::size_t answer = 0;   // bytes of its answer
  std::size_t burst = 1;    // datagrams that are answered,
  std::size_t answers = 1;  // and their answers
  std::unique_ptr<Transport> transport = std::make_unique<PlainTransport>();
};

// Both go on until the process ends.
[[noreturn]] void serve_streams(const Service& service, const Descriptor& listener);
[[noreturn]] void serve_datagrams(const Service& service, const Descriptor& socket);

}  // namespace bench
