#include "support/signals.hpp"

#include <pthread.h>

#include <stop_token>

#include "support/catch.hpp"

namespace zloop::test {

IgnoredSigpipe::IgnoredSigpipe() {
  struct sigaction action{};
  action.sa_handler = SIG_IGN;
  REQUIRE(::sigaction(SIGPIPE, &action, &before_) == 0);
}

IgnoredSigpipe::~IgnoredSigpipe() { ::sigaction(SIGPIPE, &before_, nullptr); }

SignalStorm::SignalStorm() {
  struct sigaction action{};
  action.sa_handler = [](int) {};
  REQUIRE(::sigaction(SIGUSR1, &action, &before_) == 0);
  sender_ = std::jthread([target = ::pthread_self()](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      ::pthread_kill(target, SIGUSR1);
      std::this_thread::yield();
    }
  });
}

SignalStorm::~SignalStorm() {
  sender_.request_stop();
  sender_.join();
  ::sigaction(SIGUSR1, &before_, nullptr);
}

}  // namespace zloop::test
