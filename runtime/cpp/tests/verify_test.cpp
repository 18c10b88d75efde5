// Verification and description: figures that Python has, calls that are wrong, and memory that runs out.
// Needs ONNX Runtime.
#include "ldm_runtime.h"

#include <cmath>
#include <cstring>
#include <string>

#include "core/sampling/arithmetic.h"
#include "core/text/words.h"
#include "src/verify/inpainting_probe.h"
#include "src/verify/metrics.h"
#include "tests/check.h"
#include "tests/failing_allocator.h"
#include "tests/files.h"
#include "tests/scratch.h"

using namespace ldm;

namespace {

const std::string kit = golden_path("package");
const std::string builtin = golden_path("../../runtime/ldm_runtime/builtin");

bool is_near(double found, double expected) { return std::fabs(found - expected) <= 1e-12 * std::fabs(expected); }

// What ldm_export/verify/metrics.py gives for the same arrays.
void figures_are_python_s() {
    float reference[24], value[24];
    for (int index = 0; index < 24; ++index) {
        reference[index] = static_cast<float>(index);
        value[index] = reference[index] + (index >= 12 ? 0.5f : index == 3 ? -2.0f : 0.0f);
    }
    verify::Figures worst = verify::compare_samples(value, reference, 2, 12);
    CHECK(is_near(worst.relative_rms, 0.08891084489487741) && is_near(worst.max_abs, 2.0));
    CHECK(is_near(worst.psnr, 25.599066250361126) && is_near(verify::psnr(value, reference, 24), 32.58568873732535));
    CHECK(std::isinf(verify::psnr(value, value, 24)) &&
          verify::compare_samples(value, value, 2, 12).relative_rms == 0.0);
    float zeros[2] = {0.0f, 0.0f};
    CHECK(std::isinf(verify::compare_samples(value, zeros, 1, 2).psnr));
    CHECK(sampling::all_finite(value, 24) && !sampling::all_finite((value[5] = NAN, value), 24));
}

void similarity_is_python_s() {
    struct Case {
        std::size_t height, width;
        double similarity;
        int levels;
    };
    Allocator memory = system_allocator();
    for (const Case& each :
         {Case{16, 20, 0.014250583740062453, 253}, {4, 9, 0.11677530271679602, 227}, {1, 1, 0.997992479074421, 2}}) {
        Array<std::uint8_t> first(memory), second(memory);
        for (std::size_t index = 0; index < 3 * each.height * each.width; ++index) {
            std::size_t level = 7 * index * index + 3 * index;
            CHECK(first.push(static_cast<std::uint8_t>(level % 251)));
            CHECK(second.push(static_cast<std::uint8_t>((level + index % 5) % 256)));
        }
        double found = 0.0;
        CHECK(verify::ssim(memory, first.data(), second.data(), each.height, each.width, found));
        CHECK(std::fabs(found - each.similarity) < 1e-12);
        CHECK(verify::max_levels(first.data(), second.data(), first.size()) == each.levels);
    }
}

void the_probe_is_numpy_s() {
    Allocator memory = system_allocator();
    Array<std::uint8_t> image(memory), mask(memory);
    const std::uint8_t first[] = {139, 74, 229, 241, 169, 65, 6, 160, 149, 106, 38, 175}, last[] = {235, 208, 224};
    CHECK(verify::probe_image(24, 16, image) && image.size() == 24 * 16 * 3);
    CHECK(std::memcmp(image.data(), first, sizeof first) == 0 && std::memcmp(image.end() - 3, last, sizeof last) == 0);
    CHECK(verify::probe_mask(24, 16, 8, mask) && mask[7] == 0 && mask[8] == 255 && mask[23] == 255 && mask[24] == 0);
}

void texts_are_python_s() {
    Allocator memory = system_allocator();
    Words words(memory);
    words.repr("a\t\\'\n\"").add(" ").repr("it's").add(" ").repr("é\x01");
    CHECK(words.view() == "'a\\t\\\\\\'\\n\"' \"it's\" 'é\\x01'");
    Words numbers(memory);
    numbers.scientific(1.25e-7, 2)
        .add(" ")
        .fixed(59.96, 1)
        .add(" ")
        .general(3.0, 6)
        .add(" ")
        .grouped(9999)
        .add(" ")
        .grouped(1234567);
    CHECK(numbers.view() == "1.25e-07 60.0 3 9999 1,234,567");
}

void wrong_calls_are_misuse() {
    Scratch scratch;
    ldm_context* context = nullptr;
    ldm_report* report = nullptr;
    ldm_package* package = nullptr;
    const char* text = "before";
    ldm_engine_options options;
    std::memset(&options, 0, sizeof options);
    CHECK(ldm_context_create(nullptr, &context) == LDM_OK);
    CHECK(ldm_verify(nullptr, "x", nullptr, &report) == LDM_MISUSE && report == nullptr);
    CHECK(ldm_verify(context, nullptr, nullptr, &report) == LDM_MISUSE && report == nullptr);
    CHECK(ldm_verify(context, "x", nullptr, nullptr) == LDM_MISUSE);
    CHECK(ldm_verify(context, "x", &options, &report) == LDM_MISUSE && report == nullptr);  // not begun
    CHECK(ldm_verify(context, "/nowhere", nullptr, &report) == LDM_BAD_PACKAGE && report == nullptr);
    CHECK(ldm_verify(context, kit.c_str(), nullptr, &report) == LDM_BAD_PACKAGE && report == nullptr);
    CHECK(std::strcmp(ldm_error_code(context), "proof.invalid") == 0);
    CHECK(ldm_report_passed(nullptr) == 0 && ldm_report_table(nullptr)[0] == '\0' &&
          ldm_report_json(nullptr)[0] == '\0');
    CHECK(ldm_report_failure(nullptr, 0) == nullptr);
    ldm_report_free(nullptr);
    CHECK(ldm_package_describe(nullptr, package, 0, &text) == LDM_MISUSE && text == nullptr);
    CHECK(ldm_package_describe(context, nullptr, 0, &text) == LDM_MISUSE && text == nullptr);
    CHECK(ldm_package_open(context, kit.c_str(), nullptr, &package) == LDM_OK);
    CHECK(ldm_package_describe(context, package, 0, nullptr) == LDM_MISUSE);
    ldm_package_free(package);
    std::string manifest = read_file(kit + "/manifest.json"), tokenizer = read_file(kit + "/tokenizer/tokenizer.json");
    ldm_text given{tokenizer.data(), tokenizer.size()};
    CHECK(ldm_package_parse(context, {manifest.data(), manifest.size()}, &given, 1, &package) == LDM_OK);
    CHECK(ldm_package_describe(context, package, 0, &text) == LDM_MISUSE && text == nullptr);  // it has no files
    ldm_package_free(package);
    CHECK(ldm_check_output(nullptr, "x.png", 0) == LDM_MISUSE && ldm_check_output(context, nullptr, 0) == LDM_MISUSE);
    ldm_context_free(context);
}

void outputs_are_checked_before_the_work() {
    Scratch scratch;
    ldm_context* context = nullptr;
    CHECK(ldm_context_create(nullptr, &context) == LDM_OK);
    std::string folder = scratch.folder("out"), path = folder + "/image.png";
    CHECK(ldm_check_output(context, path.c_str(), 0) == LDM_OK);
    CHECK(std::system(("test -z \"$(ls -A '" + folder + "')\"").c_str()) == 0);  // nothing is left there
    scratch.write("out/image.png", "kept");
    CHECK(ldm_check_output(context, path.c_str(), 0) == LDM_BAD_OUTPUT &&
          ldm_check_output(context, path.c_str(), 1) == LDM_OK);
    CHECK(read_file(path) == "kept");
    CHECK(ldm_check_output(context, (folder + "/missing/x.png").c_str(), 0) == LDM_BAD_OUTPUT);
    CHECK(ldm_check_output(context, "/proc/x.png", 0) == LDM_BAD_OUTPUT);  // a folder that takes no files
    ldm_context_free(context);
}

ldm_context* failing_context(FailingAllocator& failing) {
    ldm_context_options options;
    ldm_context_options_init(&options, sizeof options);
    options.allocate = FailingAllocator::allocate;
    options.release = FailingAllocator::release;
    options.memory_user = &failing;
    ldm_context* context = nullptr;
    return ldm_context_create(&options, &context) == LDM_OK ? context : nullptr;
}

void a_description_says_that_no_memory_is_left() {
    Scratch scratch;
    ldm_context* context = nullptr;
    ldm_package* package = nullptr;
    CHECK(ldm_context_create(nullptr, &context) == LDM_OK);
    CHECK(ldm_package_open(context, builtin.c_str(), nullptr, &package) == LDM_OK);
    CHECK(ldm_package_confirm(context, package) == LDM_OK);
    ldm_status status = LDM_NO_MEMORY;
    for (long long allowed = 1; status == LDM_NO_MEMORY; ++allowed) {
        FailingAllocator failing;
        failing.allowed = allowed;
        ldm_context* poor = failing_context(failing);
        const char* text = nullptr;
        status = ldm_package_describe(poor, package, 1, &text);
        CHECK((status == LDM_OK) == (text != nullptr));
        ldm_context_free(poor);
        CHECK(failing.alive == 0);
    }
    CHECK(status == LDM_OK);
    ldm_package_free(package);
    ldm_context_free(context);
}

// A whole verification takes seconds, so that not every allocation can be tried.
void a_verification_says_that_no_memory_is_left() {
    Scratch scratch;
    ldm_status status = LDM_NO_MEMORY;
    for (long long allowed = 1; status == LDM_NO_MEMORY; allowed *= 3) {
        FailingAllocator failing;
        failing.allowed = allowed;
        ldm_context* poor = failing_context(failing);
        ldm_report* report = nullptr;
        status = ldm_verify(poor, builtin.c_str(), nullptr, &report);
        if (status == LDM_OK) CHECK(ldm_report_passed(report) == 1 && ldm_report_failure(report, 0) == nullptr);
        CHECK((status == LDM_OK) == (report != nullptr));
        ldm_report_free(report);
        ldm_context_free(poor);
        CHECK(failing.alive == 0);
    }
    CHECK(status == LDM_OK);
}

}  // namespace

int main() {
    figures_are_python_s();
    similarity_is_python_s();
    the_probe_is_numpy_s();
    texts_are_python_s();
    wrong_calls_are_misuse();
    outputs_are_checked_before_the_work();
    a_description_says_that_no_memory_is_left();
    a_verification_says_that_no_memory_is_left();
    return done();
}
