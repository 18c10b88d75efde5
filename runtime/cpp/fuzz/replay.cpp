// Runs a fuzz target without libFuzzer: NAME [--rounds N] FILE|FOLDER …
// Each file as it is, then N mutations of it, which are the same ones each time. An input that ends the program is
// written to crash-input in the current folder, to be given as the FILE.
#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "fuzz/target.h"
#include "tests/files.h"

// Of the sanitizers, where the program is built with them.
extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());

namespace {

std::string input;  // that is being run

void keep_input() {
    std::FILE* file = std::fopen("crash-input", "wb");
    if (file == nullptr) return;
    std::fwrite(input.data(), 1, input.size(), file);
    std::fclose(file);
    std::fprintf(stderr, "the input is in crash-input, %zu bytes\n", input.size());
}

void run(const std::string& bytes) {
    input = bytes;
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
}

// SplitMix64.
struct Random {
    std::uint64_t state;

    std::uint64_t next() {
        std::uint64_t word = state += 0x9e3779b97f4a7c15;
        word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9;
        word = (word ^ word >> 27) * 0x94d049bb133111eb;
        return word ^ word >> 31;
    }
    std::size_t below(std::size_t bound) { return bound == 0 ? 0 : static_cast<std::size_t>(next() % bound); }
};

// Change a text a few times; `other`: of the same corpus, to take pieces from.
void mutate(std::string& bytes, const std::string& other, Random& random) {
    static const std::string_view pieces[] = {"0",
                                              "-1",
                                              "1e999",
                                              "9223372036854775808",
                                              "\"",
                                              "{",
                                              "[",
                                              "null",
                                              "\xff",
                                              std::string_view("\0\0\0\0", 4),
                                              "\xff\xff\xff\xff",
                                              "\u00e9",
                                              "\U0001f600"};
    for (std::size_t change = 1 + random.below(4); change > 0; --change) {
        std::size_t at = random.below(bytes.size() + 1),
                    count = random.below(std::min<std::size_t>(bytes.size() - at, 16) + 1);
        std::size_t from = random.below(other.size() + 1);
        switch (random.below(6)) {
            case 0: bytes.erase(at, count); break;
            case 1: bytes.insert(at, other, from, random.below(64)); break;
            case 2: bytes.replace(at, count, pieces[random.below(std::size(pieces))]); break;
            case 3: bytes.insert(at, bytes.substr(at, count)); break;
            default:
                if (at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ (1u << random.below(8)));
        }
    }
}

std::vector<std::string> files_of(const char* path) {
    std::vector<std::string> files;
    std::error_code error;
    if (!std::filesystem::is_directory(path, error)) return {path};
    for (std::filesystem::directory_iterator each(path, error), end; each != end; each.increment(error)) {
        files.push_back(each->path().string());
    }
    std::sort(files.begin(), files.end());
    return files;
}

}  // namespace

int main(int argc, char** argv) {
    if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(keep_input);
    std::signal(SIGABRT, [](int) { keep_input(); });
    std::size_t rounds = 0;
    std::vector<std::string> corpus;
    for (int index = 1; index < argc; ++index) {
        if (std::strcmp(argv[index], "--rounds") == 0 && index + 1 < argc) {
            rounds = std::strtoull(argv[++index], nullptr, 10);
            continue;
        }
        for (const std::string& path : files_of(argv[index])) corpus.push_back(read_file(path));
    }
    if (corpus.empty()) {
        std::fprintf(stderr, "usage: %s [--rounds N] FILE|FOLDER ...; there is no file\n", argv[0]);
        return 2;
    }
    for (std::size_t place = 0; place < corpus.size(); ++place) {
        run(corpus[place]);
        Random random{place};
        for (std::size_t round = 0; round < rounds; ++round) {
            std::string bytes = corpus[place];
            mutate(bytes, corpus[random.below(corpus.size())], random);
            run(bytes);
        }
    }
    std::printf("%zu files, %zu inputs\n", corpus.size(), corpus.size() * (rounds + 1));
    return 0;
}
