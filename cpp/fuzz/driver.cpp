// A main() for fuzz targets where libFuzzer is missing: no coverage feedback, but any compiler will do.
//
//   fuzz_x [-runs=N] [-seed=S] [-max_len=L] [file or folder]...
//
// Runs the target on the given files, then on N inputs made from the seed: random bytes, and mutations of the
// files and of earlier inputs. Without -runs: the files alone, or 10000 inputs when there are none. The input
// that ends the program is left in crash-<target>.
#if defined(__has_feature)
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Input = std::vector<std::uint8_t>;
namespace fs = std::filesystem;

std::string program;
Input current;

void save_current() {
    const std::string path = "crash-" + program;
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(current.data()), static_cast<std::streamsize>(current.size()));
    std::fprintf(stderr, "%s: the input is in %s (%zu bytes)\n", program.c_str(), path.c_str(),
                 current.size());
}

class Generator {
  public:
    Generator(std::uint64_t seed, std::size_t max_len, std::vector<Input> corpus)
        : random_(seed), max_len_(max_len), pool_(std::move(corpus)) {}

    Input next() {
        Input input = pool_.empty() || below(4) == 0 ? fresh() : mutated(pool_[below(pool_.size())]);
        if (pool_.size() < 256) {
            pool_.push_back(input);
        } else if (below(16) == 0) {
            pool_[below(pool_.size())] = input;
        }
        return input;
    }

  private:
    std::size_t below(std::size_t n) { return static_cast<std::size_t>(random_() % n); }

    // Decoders take other roads for zeros, for small numbers and for runs than for noise.
    std::uint8_t byte() {
        switch (below(4)) {
            case 0:
                return 0;
            case 1:
                return static_cast<std::uint8_t>(below(8));
            case 2:
                return static_cast<std::uint8_t>(0xFF - below(2));
            default:
                return static_cast<std::uint8_t>(random_());
        }
    }

    Input fresh() {
        const std::size_t shift = below(12);  // short inputs are as likely as long ones
        Input input(below(std::max<std::size_t>(max_len_ >> shift, 1) + 1));
        const bool structured = below(2) == 0;
        for (auto& b : input) b = structured ? byte() : static_cast<std::uint8_t>(random_());
        return input;
    }

    Input mutated(Input input) {
        for (std::size_t edits = 1 + below(5); edits-- > 0;) {
            if (input.empty()) input.push_back(byte());
            const std::size_t at = below(input.size());
            const auto here = input.begin() + static_cast<std::ptrdiff_t>(at);
            const std::size_t n = std::min(below(16) + 1, input.size() - at);
            const auto end = here + static_cast<std::ptrdiff_t>(n);
            switch (below(7)) {
                case 0:
                    input[at] ^= static_cast<std::uint8_t>(1U << below(8));
                    break;
                case 1:
                    input[at] = byte();
                    break;
                case 2:
                    input.erase(here, end);
                    break;
                case 3:
                    input.insert(here, n, byte());
                    break;
                case 4:
                    input.resize(at);
                    break;
                case 5:
                    std::fill(here, end, byte());
                    break;
                default: {
                    const Input piece(here, end);
                    const std::size_t to = below(input.size() + 1);
                    input.insert(input.begin() + static_cast<std::ptrdiff_t>(to), piece.begin(), piece.end());
                }
            }
        }
        if (input.size() > max_len_) input.resize(max_len_);
        return input;
    }

    std::mt19937_64 random_;
    std::size_t max_len_;
    std::vector<Input> pool_;
};

Input read_file(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        std::fprintf(stderr, "cannot read %s\n", path.c_str());
        std::exit(2);
    }
    return {std::istreambuf_iterator<char>(file), {}};
}

void run(const Input& input) {
    current = input;
    LLVMFuzzerTestOneInput(current.data(), current.size());
}

}  // namespace

int main(int argc, char** argv) {
    program = fs::path(argv[0]).filename().string();
    long long runs = -1;
    std::uint64_t seed = 1;
    std::size_t max_len = 4096;
    std::vector<Input> corpus;
    for (int i = 1; i < argc; ++i) {
        const std::string_view arg = argv[i];
        const auto value = [&] { return std::strtoull(argv[i] + arg.find('=') + 1, nullptr, 10); };
        if (arg.starts_with("-runs=")) {
            runs = static_cast<long long>(value());
        } else if (arg.starts_with("-seed=")) {
            seed = value();
        } else if (arg.starts_with("-max_len=")) {
            max_len = std::max<std::size_t>(value(), 1);
        } else if (arg.starts_with("-")) {
            std::fprintf(stderr, "unknown option %s\n", argv[i]);
            return 2;
        } else if (fs::is_directory(arg)) {
            std::vector<fs::path> paths;
            for (const auto& entry : fs::recursive_directory_iterator(arg)) {
                if (entry.is_regular_file()) paths.push_back(entry.path());
            }
            std::sort(paths.begin(), paths.end());
            for (const auto& path : paths) corpus.push_back(read_file(path));
        } else {
            corpus.push_back(read_file(arg));
        }
    }
    if (runs < 0) runs = corpus.empty() ? 10000 : 0;

#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_set_death_callback(save_current);
#endif
    std::set_terminate([] {
        save_current();
        std::abort();
    });

    long long executions = 0;
    for (const Input& input : corpus) {
        run(input);
        ++executions;
    }
    Generator generator(seed, max_len, std::move(corpus));
    for (long long i = 0; i < runs; ++i, ++executions) run(generator.next());
    std::printf("%s: %lld executions, no failure\n", program.c_str(), executions);
    return 0;
}
