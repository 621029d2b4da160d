// A fuzzer for compilers that bring none: calls the target with each input of a corpus, then with changes of these,
// made at random. Takes libFuzzer's options of these names, and sees nothing of what code an input reaches:
//
//   zloop_tls_fuzzer [-runs=N] [-seed=N] [-max_total_time=SECONDS] FOLDER|FILE...
//
// With neither a number nor a time it stops after the corpus. The input that the process dies of is written to the file
// crash-input in the present folder.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "fuzzing/target.hpp"

namespace {

using Bytes = std::vector<std::uint8_t>;
using Clock = std::chrono::steady_clock;

constexpr std::size_t longest = 4096;

// NOLINTNEXTLINE(cppcoreguidelines-avoid-non-const-global-variables): a signal handler is given nothing else
const Bytes* present = nullptr;

extern "C" void keep_input(int number) {
  const int fd = ::open("crash-input", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd >= 0 && present != nullptr && ::write(fd, present->data(), present->size()) >= 0) ::close(fd);
  std::signal(number, SIG_DFL);  // NOLINT(cert-err33-c): nothing is left to be done if that fails
  std::raise(number);            // NOLINT(cert-err33-c)
}

void run(const Bytes& input) {
  present = &input;
  LLVMFuzzerTestOneInput(input.data(), input.size());
}

Bytes read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

class Mutator {
 public:
  Mutator(std::vector<Bytes> corpus, std::uint64_t seed) : corpus_(std::move(corpus)), random_(seed) {}

  Bytes next() {
    Bytes bytes = corpus_[below(corpus_.size())];
    for (std::size_t changes = 1 + below(8); changes > 0; --changes) change(bytes);
    if (bytes.size() > longest) bytes.resize(longest);
    return bytes;
  }

 private:
  std::size_t below(std::size_t limit) { return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random_); }
  std::uint8_t any() { return static_cast<std::uint8_t>(below(256)); }

  void change(Bytes& bytes) {
    const auto place = static_cast<std::ptrdiff_t>(below(bytes.size() + 1));
    const auto at = bytes.begin() + place;
    const std::size_t behind = bytes.size() - static_cast<std::size_t>(place);
    switch (below(6)) {
      case 0:
        if (behind > 0) *at ^= static_cast<std::uint8_t>(1U << below(8));
        break;
      case 1:
        if (behind > 0) *at = any();
        break;
      case 2:
        bytes.erase(at, at + static_cast<std::ptrdiff_t>(below(behind + 1)));
        break;
      case 3: {
        Bytes more(1 + below(16));
        for (std::uint8_t& byte : more) byte = any();
        bytes.insert(at, more.begin(), more.end());
        break;
      }
      case 4: {
        const Bytes piece(at, at + static_cast<std::ptrdiff_t>(below(behind + 1)));
        bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(below(bytes.size() + 1)), piece.begin(), piece.end());
        break;
      }
      default: {
        const Bytes& other = corpus_[below(corpus_.size())];
        const std::size_t begin = below(other.size() + 1);
        bytes.insert(at, other.begin() + static_cast<std::ptrdiff_t>(begin), other.end());
      }
    }
  }

  std::vector<Bytes> corpus_;
  std::mt19937_64 random_;
};

struct Options {
  std::uint64_t runs = 0;
  std::uint64_t seed = 0;
  std::chrono::seconds longest{0};
  std::vector<Bytes> corpus;

  explicit Options(const std::vector<std::string>& arguments) {
    for (const std::string& argument : arguments) {
      if (!argument.starts_with('-')) {
        read_corpus(argument);
      } else if (argument.starts_with("-runs=")) {
        runs = std::stoull(argument.substr(6));
      } else if (argument.starts_with("-seed=")) {
        seed = std::stoull(argument.substr(6));
      } else if (argument.starts_with("-max_total_time=")) {
        longest = std::chrono::seconds(std::stoll(argument.substr(16)));
      } else {
        throw std::invalid_argument(argument);
      }
    }
    if (seed == 0) seed = std::random_device()();
    if (corpus.empty()) corpus.emplace_back();
  }

  void read_corpus(const std::filesystem::path& path) {
    if (!std::filesystem::is_directory(path)) {
      corpus.push_back(read_file(path));
      return;
    }
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(path)) files.push_back(entry.path());
    std::ranges::sort(files);  // a folder has no order of its own, and a seed is to repeat a run
    for (const auto& file : files) corpus.push_back(read_file(file));
  }
};

}  // namespace

int main(int count, char** arguments) {
  try {
    const Options options({arguments + 1, arguments + count});
    for (const int number : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
      if (std::signal(number, keep_input) == SIG_ERR) throw std::runtime_error("a signal cannot be handled");
    }
    std::cout << options.corpus.size() << " inputs, seed " << options.seed << '\n' << std::flush;
    for (const Bytes& input : options.corpus) run(input);
    Mutator mutator(options.corpus, options.seed);
    const Clock::time_point end = Clock::now() + options.longest;
    std::uint64_t runs = 0;
    for (; runs < options.runs || Clock::now() < end; ++runs) {
      const Bytes input = mutator.next();
      run(input);
    }
    std::cout << runs << " changes of them\n";
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << '\n';
    return 2;
  }
  return 0;
}
