// What one run of the load generator measures: requests, their latency, and the processor time of the server they went
// to.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <ctime>
#include <vector>

#include "net.hpp"

namespace bench {

// Runs through a warm-up, which begins with the first request that is complete and counts for nothing, and a window,
// which is measured, and in which one request is completed at least, however long that takes.
class Meter {
 public:
  // `server` is the process whose processor time is read, that of all its threads.
  Meter(pid_t server, std::chrono::milliseconds warm_up, std::chrono::milliseconds window);

  // `count` requests are complete, the last of which began then.
  void complete(Clock::time_point began, Clock::time_point ended, std::uint64_t count = 1);
  // `count` pieces have moved, none of which has a latency.
  void move(std::uint64_t count) noexcept { requests_ += count; }

  // Enters the window, or leaves it, once that is due; call it after each wait. Throws std::runtime_error when nothing
  // has been completed for long.
  void tick();
  [[nodiscard]] bool over() const noexcept { return phase_ == Phase::over; }
  // How long a wait may be for tick() to come in time.
  [[nodiscard]] std::chrono::milliseconds until_next_phase() const;

  // One line of JSON; each piece that was moved or completed is 1/`pieces_per_request` of a request.
  void print(double pieces_per_request = 1) const;

 private:
  enum class Phase : std::uint8_t { warm_up, window, over };
  struct Moment {
    Clock::time_point time;
    std::chrono::nanoseconds processor_time{};
    std::uint64_t requests = 0;
  };

  [[nodiscard]] Moment now() const;
  void check_progress(Clock::time_point time);

  clockid_t server_clock_{};
  Phase phase_ = Phase::warm_up;
  std::chrono::milliseconds warm_up_;
  std::chrono::milliseconds window_;
  Clock::time_point phase_ends_;
  std::uint64_t requests_ = 0;
  Moment began_, ended_;
  std::vector<std::uint32_t> latencies_ns_;

  std::uint64_t requests_seen_ = 0;
  Clock::time_point progress_seen_;
};

}  // namespace bench
