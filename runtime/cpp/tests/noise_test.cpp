// Noise: the golden streams (philox to the bit, torch and cuda to 1e-6), and what holds for a batch.
#include "core/noise/noise.h"

#include <charconv>
#include <cmath>
#include <vector>

#include "core/sha256.h"
#include "tests/check.h"
#include "tests/failing_allocator.h"
#include "tests/files.h"

using namespace ldm;

static std::uint64_t seed_of(std::string_view digits) {
    std::uint64_t seed = 0;
    CHECK(std::from_chars(digits.data(), digits.data() + digits.size(), seed).ec == std::errc());
    return seed;
}

static std::size_t size_of(const json::Value& shape) {
    std::size_t size = 1;
    for (const json::Value& each : shape.items) size *= static_cast<std::size_t>(each.integer);
    return size;
}

// Compare with the first 64 values of a stream.
static void compare(const std::vector<float>& got, View<float> expected, double tolerance, std::string_view tensor) {
    CHECK(expected.size == (got.size() < 64 ? got.size() : 64));
    bool near = true;
    for (std::size_t index = 0; index < expected.size; ++index) {
        near = near && (tolerance > 0.0 ? std::fabs(double{got[index]} - double{expected[index]}) <= tolerance
                                        : std::memcmp(&got[index], &expected[index], sizeof(float)) == 0);
    }
    if (!CHECK(near)) std::fprintf(stderr, "  %.*s\n", static_cast<int>(tensor.size()), tensor.data());
}

static void golden_streams_are_drawn() {
    GoldenJson golden("noise.json");
    GoldenTensors tensors("noise.safetensors");
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    std::vector<TorchGenerator> torch;  // of the seed that is drawn from
    std::vector<CudaGenerator> cuda;
    int cases = 0;
    for (const json::Value& each : golden.value.items) {
        std::string_view name = each.find("mode")->text, tensor = each.find("tensor")->text;
        if (name == "slerp") continue;
        NoiseMode mode;
        CHECK(check_noise(scope, name, false, "", mode).ok());
        std::uint64_t seed = seed_of(each.find("seed")->text);
        std::vector<float> values(size_of(*each.find("shape")));
        if (mode.kind == NoiseMode::Kind::philox) {
            philox_normal(seed, static_cast<std::uint32_t>(each.find("stream")->integer), values.data(), values.size());
        } else {
            bool begins = each.find("draw")->integer == 0;
            if (mode.kind == NoiseMode::Kind::torch) {
                if (begins) torch.assign(1, TorchGenerator(seed));
                torch[0].normal(values.data(), values.size());
            } else {
                if (begins) cuda.assign(1, CudaGenerator(seed, mode.resident_threads));
                CHECK(cuda[0].normal(scope, values.data(), values.size()).ok());
            }
        }
        if (mode.kind == NoiseMode::Kind::philox) {
            Sha256 hash;
            hash.update({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
            CHECK(hash.finish().hex().view() == each.find("sha256")->text);
        }
        compare(values, tensors.tensor<float>(tensor), mode.kind == NoiseMode::Kind::philox ? 0.0 : 1e-6, tensor);
        ++cases;
    }
    CHECK(cases == 60);
}

static void a_batch_equals_its_singles() {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    for (const char* name : {"philox", "torch", "cuda", "cuda:256"}) {
        NoiseMode mode;
        CHECK(check_noise(scope, name, false, "", mode).ok());
        Array<std::uint64_t> seeds(memory);
        CHECK(batch_seeds(scope, 0xFFFFFFFFFFFFFFFF, 3, seeds).ok() && seeds[0] == 0xFFFFFFFFFFFFFFFF && seeds[2] == 1);
        constexpr std::size_t numbers = 1027;
        Noise batch(memory);
        CHECK(batch.start(scope, mode, seeds.view(), numbers).ok() && batch.size() == 3 * numbers);
        std::vector<float> all(batch.size()), one(numbers);
        CHECK(batch.initial(scope, all.data()).ok() && batch.stream(scope, vae_stream, all.data()).ok());
        for (std::size_t image = 0; image < 3; ++image) {
            Noise single(memory);
            CHECK(single.start(scope, mode, {&seeds[image], 1}, numbers).ok());
            CHECK(single.initial(scope, one.data()).ok() && single.stream(scope, vae_stream, one.data()).ok());
            CHECK(std::memcmp(one.data(), all.data() + image * numbers, numbers * sizeof(float)) == 0);
        }
    }
}

static void a_row_is_kept_for_the_next_one() {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    std::uint64_t seed = 7;
    Noise noise(memory);
    CHECK(noise.start(scope, {NoiseMode::Kind::torch, 0}, {&seed, 1}, 64).ok());
    View<float> first, second, again;
    CHECK(noise.row(scope, 3, first).ok() && noise.row(scope, 4, second).ok() && noise.row(scope, 3, again).ok());
    CHECK(first.data == again.data && first[0] != second[0]);
    TorchGenerator generator(seed);
    float expected[128];
    generator.normal(expected, 64);
    generator.normal(expected + 64, 64);
    CHECK(std::memcmp(first.data, expected, sizeof expected / 2) == 0);
    CHECK(std::memcmp(second.data, expected + 64, sizeof expected / 2) == 0);
    float row[64];
    philox_normal(seed, 6, row, 64);
    Noise philox(memory);
    CHECK(philox.start(scope, NoiseMode(), {&seed, 1}, 64).ok() && philox.row(scope, 5, first).ok());
    CHECK(std::memcmp(first.data, row, sizeof row) == 0);
}

static void names_are_checked() {
    Allocator memory = system_allocator();
    Failure failure;
    Scope scope{memory, failure};
    NoiseMode mode;
    CHECK(check_noise(scope, "cuda:270336", false, "", mode).ok() && mode.resident_threads == 270336);
    CHECK(check_noise(scope, "cuda:00000256", false, "", mode).ok() && mode.resident_threads == 256);
    CHECK(check_noise(scope, "philox", true, "dpmpp_2m_sde", mode).ok());
    for (std::string_view name : {"", "Philox", "cuda:", "cuda:255", "cuda:000000256", "cuda:+256", "cuda:256 ",
                                  "cuda:-256", "torch:256", "cuda:2e5"}) {
        Status status = check_noise(scope, name, false, "", mode);
        CHECK(!status.ok() && std::string_view(status.code()) == codes::request_noise);
    }
    for (std::string_view name : {"torch", "cuda", "cuda:256"}) CHECK(!check_noise(scope, name, true, "x", mode).ok());
    CudaGenerator generator(0, 0);
    std::vector<float> values(cuda_max_portable_numbers + 1);
    CHECK(generator.normal(scope, values.data(), cuda_max_portable_numbers).ok());
    Status status = generator.normal(scope, values.data(), values.size());
    CHECK(!status.ok() && std::string_view(status.code()) == codes::request_noise);
}

// The quantile where its formula changes, and at its ends.
static void quantiles_are_right() {
    const double known[][2] = {{0.5, 0.0}, {0.975, 1.959963984540054}, {0.925, 1.4395314709384563},
                               {1e-10, -6.361340902404056}, {0x1p-33, -6.337957754553789}};
    for (auto [u, z] : known) CHECK(std::fabs(inverse_normal(u) - z) <= 1e-14 * (1.0 + std::fabs(z)));
}

int main() {
    golden_streams_are_drawn();
    a_batch_equals_its_singles();
    a_row_is_kept_for_the_next_one();
    names_are_checked();
    quantiles_are_right();
    for (NoiseMode::Kind kind : {NoiseMode::Kind::philox, NoiseMode::Kind::torch, NoiseMode::Kind::cuda}) {
        check_every_allocation("noise of a batch", [kind](Scope& scope) {
            Array<std::uint64_t> seeds(scope.memory);
            LDM_TRY(batch_seeds(scope, 5, 3, seeds));
            Noise noise(scope.memory);
            LDM_TRY(noise.start(scope, {kind, 0}, seeds.view(), 32));
            View<float> row;
            LDM_TRY(noise.row(scope, 0, row));
            return noise.row(scope, 1, row);
        });
    }
    return done();
}
