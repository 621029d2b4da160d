// The kinds of load, and what the command line says about them.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>

#include "channel.hpp"
#include "meter.hpp"
#include "net.hpp"

namespace bench {

struct Options {
  std::string mode;
  std::unique_ptr<Address> server;
  pid_t server_pid = 0;
  int core = -1;
  std::size_t connections = 16;
  std::size_t size = 1024;  // bytes of a message
  std::size_t answer = 0;   // bytes of an answer, where it is no echo
  std::size_t burst = 1;    // datagrams sent in a row, before an answer is waited for
  std::size_t answers = 1;  // datagrams that answer them
  std::size_t rate = 0;     // requests/s over all connections; 0: the next one follows the answer
  std::chrono::milliseconds warm_up{150};
  std::chrono::milliseconds window{500};
  std::unique_ptr<Transport> transport = std::make_unique<PlainTransport>();
};

// What one connection says, and how it knows that it has been answered.
struct Script {
  std::string opening;  // sent once, before anything else; empty if there is none
  std::string request;
  std::size_t opening_answer = 0;  // bytes
  std::size_t answer = 0;
  std::string answer_begins;  // with these bytes, each time
};

// The script of the modes echo, answer, http and websocket. Speaks it with the server once, to learn how long its
// answers are and to see that they are right; throws std::runtime_error if they aren't.
Script probe(const Options& options);

// Each connection sends a request, waits for the answer, and so on: at once, or when the next is due at the rate. Then
// latency counts from when a request was due: a connection that is late with one makes the next one late.
void exchange(const Options& options);
void churn(const Options& options);  // a connection for each request
void exchange_datagrams(const Options& options);
void send_in_bulk(const Options& options);  // a request is 64 KiB, sent as fast as they are taken
void receive_in_bulk(const Options& options);
void idle(const Options& options);  // what the server's memory grows by for each connection

}  // namespace bench
