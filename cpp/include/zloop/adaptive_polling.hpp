// Adaptive polling: decides which of the turns that do not block poll for events.
//
// A turn that has callbacks to run polls with a timeout of 0, and the system call costs as much as a callback. Two
// policies skip polls:
//
//   - Empty polls. After `empty_polls_to_skip` consecutive polls without an event, up to `max_skipped_polls`
//     consecutive turns skip the poll, for at most `max_poll_gap_ns`. So an event is dispatched at most that much later
//     than by a loop that polls in every turn, plus the callbacks of the current turn. An event, a turn that blocks, a
//     change of any watcher's interest, or the start of a run ends this: the next `empty_polls_to_skip` turns poll
//     again. If no descriptor is watched, no poll can find an event: there is no time limit then, and
//     `max_skipped_polls` consecutive turns skip the poll.
//
//   - Busy batch. After a poll that found at least `busy_batch_min` events, the next turn skips its poll, if less than
//     `max_busy_gap_ns` have passed. A busy server works in phases: one turn reads the requests, and the next turn runs
//     the tasks that they woke. A poll between the two finds the first few of the next requests. That splits the
//     connections into groups whose phases stay different; each group finds the CPU caches full of the other group's
//     code, and needs polls of its own. With this policy an event is dispatched one turn later, as if it had arrived
//     later. It is never dispatched earlier: a coroutine that awaits create_connection() continues before the first
//     bytes are received, as in asyncio.
//
// A program may count turns: it repeats `await asyncio.sleep(0)` until an answer has arrived. It sees the event in the
// turn in which it expects it, if it counts at most `empty_polls_to_skip` turns and has few connections.
//
// Loop thread only.
#pragma once

#include <cstdint>

#include "zloop/clock.hpp"

namespace zloop {

class AdaptivePolling {
 public:
  static constexpr int empty_polls_to_skip = 64;
  static constexpr int max_skipped_polls = 64;
  static constexpr std::int64_t max_poll_gap_ns = 50'000;
  static constexpr int busy_batch_min = 4;
  static constexpr std::int64_t max_busy_gap_ns = 1'000'000;

  // `clock` returns nanoseconds and never goes backwards.
  explicit AdaptivePolling(std::int64_t (*clock)() noexcept = monotonic_ns) noexcept : clock_(clock) {}

  // From now on every turn polls.
  void disable() noexcept { max_skipped_ = 0; }

  // True if this turn, which does not block, skips its poll; the skip is counted. `watching`: a poll can find an event.
  bool skips(bool watching) noexcept {
    if (skipped_ == max_skipped_ || (watching && !may_skip())) return false;
    ++skipped_;
    return true;
  }

  // Records the poll of a turn that does not block. `events`: the number of events, or -errno, as after a signal.
  void polled(int events) noexcept {
    skipped_ = 0;
    busy_ = events >= busy_batch_min;
    if (events != 0) {
      empty_polls_ = 0;
    } else if (empty_polls_ < empty_polls_to_skip) {
      ++empty_polls_;
    }
    if (busy_ || empty_polls_ == empty_polls_to_skip) polled_at_ = clock_();
  }

  // The same for a turn that may block.
  void blocked(int events) noexcept {
    polled(events);
    empty_polls_ = 0;
  }

  // Events have become likely: the next turns poll.
  void reset() noexcept {
    busy_ = false;
    empty_polls_ = 0;
  }

 private:
  // True if this turn may skip its poll although a poll can find an event.
  [[nodiscard]] bool may_skip() const noexcept {
    if (busy_ && skipped_ == 0) return clock_() - polled_at_ < max_busy_gap_ns;
    return empty_polls_ == empty_polls_to_skip && clock_() - polled_at_ < max_poll_gap_ns;
  }

  std::int64_t (*clock_)() noexcept;
  int max_skipped_ = max_skipped_polls;
  int skipped_ = 0;             // turns since the last poll
  int empty_polls_ = 0;         // consecutive, at most empty_polls_to_skip
  bool busy_ = false;           // the last poll found a busy batch, and reset() has not been called since
  std::int64_t polled_at_ = 0;  // time of the last poll; updated only while a policy applies
};

}  // namespace zloop
