// Deferred and DeferredList, of reactor.hpp.
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "support/catch.hpp"
#include "zloop/reactor.hpp"

namespace {

using zloop::Deferred;
using zloop::DeferredList;

// Writes its letter when it runs, then does what it was told.
struct Task final : Deferred {
  Task(char with_letter, std::string& with_log) : letter(with_letter), log(with_log) {}

  char letter;
  std::string& log;
  std::function<void()> then;

 private:
  void run_deferred() noexcept override {
    log += letter;
    if (then) then();
  }
};

struct Tasks {
  std::string log;
  DeferredList list;
  Task a{'a', log};
  Task b{'b', log};
  Task c{'c', log};

  Task& with(char letter) {
    if (letter == 'a') return a;
    return letter == 'b' ? b : c;
  }

  void schedule_all() {
    for (Task* task : {&a, &b, &c}) list.schedule(*task);
  }
};

TEST_CASE("a list runs what is scheduled, in order, once") {
  Tasks tasks;
  CHECK(tasks.list.empty());
  tasks.list.run();
  tasks.schedule_all();
  CHECK_FALSE(tasks.list.empty());
  CHECK(tasks.a.scheduled());
  tasks.list.run();
  tasks.list.run();
  CHECK(tasks.log == "abc");
  CHECK(tasks.list.empty());
  CHECK_FALSE(tasks.a.scheduled());
}

TEST_CASE("scheduling twice changes nothing") {
  Tasks tasks;
  tasks.schedule_all();
  tasks.list.schedule(tasks.a);
  tasks.list.run();
  CHECK(tasks.log == "abc");
}

TEST_CASE("what is cancelled does not run, wherever it stood") {
  Tasks tasks;
  tasks.schedule_all();
  const char letter = GENERATE('a', 'b', 'c');
  Task& cancelled = tasks.with(letter);
  cancelled.cancel();
  cancelled.cancel();
  CHECK_FALSE(cancelled.scheduled());
  tasks.list.run();
  CHECK(tasks.log.size() == 2);
  CHECK(tasks.log.find(letter) == std::string::npos);
}

TEST_CASE("what is scheduled during a run waits for the next one") {
  Tasks tasks;
  tasks.a.then = [&] {
    tasks.list.schedule(tasks.a);  // itself
    tasks.list.schedule(tasks.c);  // another
  };
  tasks.list.schedule(tasks.a);
  tasks.list.schedule(tasks.b);
  tasks.list.run();
  CHECK(tasks.log == "ab");
  CHECK_FALSE(tasks.list.empty());
  tasks.a.then = nullptr;
  tasks.list.run();
  CHECK(tasks.log == "abac");
  CHECK(tasks.list.empty());
}

TEST_CASE("what has run can be scheduled again by what runs after it") {
  Tasks tasks;
  tasks.b.then = [&] { tasks.list.schedule(tasks.a); };
  tasks.schedule_all();
  tasks.list.run();
  CHECK(tasks.log == "abc");
  tasks.list.run();
  CHECK(tasks.log == "abca");
}

TEST_CASE("what is cancelled during a run does not run in it") {
  Tasks tasks;
  tasks.a.then = [&] {
    tasks.b.cancel();
    tasks.c.cancel();
  };
  tasks.schedule_all();
  tasks.list.run();
  CHECK(tasks.log == "a");
  CHECK(tasks.list.empty());
}

TEST_CASE("what is cancelled and scheduled anew during a run goes to the next one") {
  Tasks tasks;
  tasks.a.then = [&] {
    tasks.b.cancel();
    tasks.list.schedule(tasks.b);
  };
  tasks.schedule_all();
  tasks.list.run();
  CHECK(tasks.log == "ac");
  tasks.list.run();
  CHECK(tasks.log == "acb");
}

TEST_CASE("what goes while it is scheduled leaves the list") {
  Tasks tasks;
  auto task = std::make_unique<Task>('x', tasks.log);
  tasks.list.schedule(tasks.a);
  tasks.list.schedule(*task);
  tasks.list.schedule(tasks.b);
  const bool during_the_run = GENERATE(false, true);
  if (during_the_run) {
    tasks.a.then = [&] { task.reset(); };
  } else {
    task.reset();
  }
  tasks.list.run();
  CHECK(tasks.log == "ab");
}

// Ends itself when it runs.
struct SelfEnding final : Deferred {
  explicit SelfEnding(bool& with_ended) : ended(with_ended) {}
  ~SelfEnding() { ended = true; }
  SelfEnding(const SelfEnding&) = delete;
  SelfEnding& operator=(const SelfEnding&) = delete;

  bool& ended;
  std::unique_ptr<SelfEnding> self{this};

 private:
  void run_deferred() noexcept override { self.reset(); }
};

TEST_CASE("what runs may end itself") {
  Tasks tasks;
  bool ended = false;
  tasks.list.schedule(*new SelfEnding(ended));
  tasks.list.schedule(tasks.a);
  tasks.list.run();
  CHECK(ended);
  CHECK(tasks.log == "a");
}

TEST_CASE("a list that goes takes everybody off") {
  std::string log;
  Task task('a', log);
  std::optional<DeferredList> list(std::in_place);
  list->schedule(task);
  list.reset();
  CHECK_FALSE(task.scheduled());
  task.cancel();
  DeferredList next;
  next.schedule(task);
  next.run();
  CHECK(log == "a");
}

}  // namespace
