// The memory of connections that do nothing: what the server's resident set grows by, for each.
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "modes.hpp"

namespace bench {

namespace {

// Bytes of the process that are in memory.
double resident_size(pid_t process) {
  std::ifstream file("/proc/" + std::to_string(process) + "/statm");
  double all_pages = 0;
  double resident_pages = 0;
  if (!(file >> all_pages >> resident_pages)) throw std::runtime_error("the server's memory cannot be read");
  return resident_pages * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

// A connection over which one message has gone there and back.
std::unique_ptr<Channel> open_used_connection(const Options& options, std::uint32_t number) {
  auto channel = options.transport->open(connect_to(*options.server, Blocking::yes, number));
  std::string message(options.size, 'i');
  if (channel->send(message) != static_cast<ssize_t>(message.size()))
    throw std::runtime_error("a message was not sent");
  for (std::size_t received = 0; received < message.size();) {
    const ssize_t count = channel->receive(message);
    if (count <= 0) throw std::runtime_error("the server does not answer");
    received += static_cast<std::size_t>(count);
  }
  return channel;
}

}  // namespace

void idle(const Options& options) {
  constexpr std::uint32_t first = 32;  // what the server needs once is there after these
  constexpr std::chrono::milliseconds rest{200};
  std::vector<std::unique_ptr<Channel>> channels;
  channels.reserve(first + options.connections);
  for (std::uint32_t number = 0; number < first; ++number) channels.push_back(open_used_connection(options, number));
  std::this_thread::sleep_for(rest);
  const double before = resident_size(options.server_pid);
  for (std::uint32_t number = 0; number < options.connections; ++number) {
    channels.push_back(open_used_connection(options, number));
  }
  std::this_thread::sleep_for(rest);
  const double grown = resident_size(options.server_pid) - before;
  std::printf(R"({"cost": %.1f})"
              "\n",
              grown / static_cast<double>(options.connections));
}

}  // namespace bench
