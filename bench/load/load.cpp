// The load generator: one thread that keeps a server busy for a moment, and says what that cost the server.
//
//   load MODE --server ADDRESS --pid PID [OPTION VALUE]...
//
//   MODE        echo, answer, http, websocket, churn, datagrams, send, receive, idle
//   ADDRESS     tcp:PORT or udp:PORT on the loopback interface, or unix:PATH
//   --pid       the server's process, whose processor time is read
//   --core N    stay on this core
//   --connections N, --size BYTES, --answer BYTES, --burst N, --answers N
//   --rate N    requests/s over all connections (echo, answer, http, websocket); as many as are answered if it is 0
//   --warm-up MS, --window MS
//   --tls new | resumed
//
// Prints one line of JSON: cost (microseconds of the server's processor time per request; bytes per connection for
// idle), rate (requests/s), p50 and p99 (microseconds of latency). What is wrong goes to standard error; the status is
// 1 then.
#include <unistd.h>

#include <exception>
#include <iostream>
#include <stdexcept>
#include <string>

#include "modes.hpp"
#include "options.hpp"

namespace {

using bench::Options;
using std::chrono::milliseconds;

constexpr unsigned longest_run_seconds = 120;

constexpr bench::Table<void (*)(const Options&), 9> modes = {
    {
        {"echo", bench::exchange},
        {"answer", bench::exchange},
        {"http", bench::exchange},
        {"websocket", bench::exchange},
        {"churn", bench::churn},
        {"datagrams", bench::exchange_datagrams},
        {"send", bench::send_in_bulk},
        {"receive", bench::receive_in_bulk},
        {"idle", bench::idle},
    },
};

constexpr bench::Table<bench::Setting<Options>, 12> settings = {
    {
        {"--server", [](Options& o, const std::string& text) { o.server = std::make_unique<bench::Address>(text); }},
        {"--pid", [](Options& o, const std::string& text) { o.server_pid = std::stoi(text); }},
        {"--core", [](Options& o, const std::string& text) { o.core = std::stoi(text); }},
        {"--connections", [](Options& o, const std::string& text) { o.connections = std::stoul(text); }},
        {"--size", [](Options& o, const std::string& text) { o.size = std::stoul(text); }},
        {"--answer", [](Options& o, const std::string& text) { o.answer = std::stoul(text); }},
        {"--burst", [](Options& o, const std::string& text) { o.burst = std::stoul(text); }},
        {"--answers", [](Options& o, const std::string& text) { o.answers = std::stoul(text); }},
        {"--rate", [](Options& o, const std::string& text) { o.rate = std::stoul(text); }},
        {"--warm-up", [](Options& o, const std::string& text) { o.warm_up = milliseconds(std::stoi(text)); }},
        {"--window", [](Options& o, const std::string& text) { o.window = milliseconds(std::stoi(text)); }},
        {"--tls", [](Options& o, const std::string& text) { o.transport = bench::make_tls_client(text == "resumed"); }},
    },
};

Options parse(std::span<char*> arguments) {
  Options options;
  bench::read_options(settings, arguments, options);
  options.mode = arguments[1];
  if (!options.server || options.server_pid == 0) throw std::invalid_argument("--server and --pid are needed");
  return options;
}

}  // namespace

int main(int count, char** arguments) {
  ::alarm(longest_run_seconds);
  try {
    const Options options = parse({arguments, static_cast<std::size_t>(count)});
    bench::raise_descriptor_limit();
    bench::pin_to_core(options.core);
    bench::look_up(modes, options.mode)(options);
  } catch (const std::exception& error) {
    std::cerr << "load: " << error.what() << '\n';
    return 1;
  }
}
