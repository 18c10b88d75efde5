// ldm: draws with a package from the command line, says what is in it, and prints sampling plans.
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "ldm_runtime.hpp"
#include "src/tool/arguments.h"
#include "src/tool/utf8.h"

using namespace ldm;
using tool::Arguments;
using tool::Option;
using tool::Verb;

namespace {

constexpr Option library{"--library", "PATH", "ONNX Runtime's shared library, 1.20 or newer, or OpenVINO's plugin"};
constexpr Option check{"--check", "cached|full|size", "hashes once for each file, now, or sizes alone"};

constexpr Option run_options[] = {
    {"--prompt", "TEXT", "what to draw; \"\" is legal"},
    {"--negative", "TEXT", "what not to draw"},
    {"--seed", "INTEGER", "of the first image; image b has seed + b (default: a random one)"},
    {"--count", "INTEGER", "number of images (1)"},
    {"--steps", "INTEGER", "sampling steps"},
    {"--guidance", "NUMBER", "classifier-free guidance; 1 or less turns it off"},
    {"--guidance-rescale", "NUMBER", "against overexposure by guidance, 0 to 1"},
    {"--guidance-interval", "A:B", "guide between these shares of the run (0:1)"},
    {"--sampler", "TEXT", "with options after a colon, such as unipc:order=3"},
    {"--size", "WxH", "in pixels"},
    {"--original-size", "WxH", "what SDXL is told of the original"},
    {"--crop-top-left", "TOP:LEFT", "what SDXL is told of the crop (0:0)"},
    {"--target-size", "WxH", "what SDXL is told of the image"},
    {"--image", "PNG", "image to start from"},
    {"--mask", "PNG", "white where the image is inpainted"},
    {"--strength", "NUMBER", "share of the steps that change the image, 0 to 1"},
    {"--variation", "SEED:SHARE", "blend this share of another seed's noise"},
    {"--noise", "TEXT", "philox, or torch or cuda for diffusers' seeds"},
    {"--weighted", "", "read (word:1.3), [word] and BREAK in prompts"},
    {"--stop-after", "INTEGER", "end after this many steps"},
    {"--out", "PNG", "output (image.png); several are numbered"},
    {"--force", "", "replace what is there"},
    {"--engine", "NAME", "ort (ONNX Runtime) or openvino (ort)"},
    {"--provider", "NAME", "execution provider of ONNX Runtime, or device of OpenVINO (cpu)"},
    {"--threads", "INTEGER", "CPU threads of an operator"},
    {"--map-weights", "", "start sooner, in less memory; steps take longer"},
    library,
    check,
};
constexpr Option inspect_options[] = {check};
constexpr Option plan_options[] = {
    {"--sampler", "TEXT", "with options after a colon"},
    {"--steps", "INTEGER", "sampling steps"},
    {"--start", "INTEGER", "steps left out at the beginning (0)"},
};

template <std::size_t N>
constexpr Verb verb(std::string_view name, std::string_view help, std::string_view example, const Option (&options)[N]) {
    return {name, "PACKAGE", help, example, options, N};
}

constexpr Verb verbs[] = {
    verb("run", "Draw with a package.", "ldm run ./package --prompt \"red apple, 3d style\" --seed 1 --out apple.png", run_options),
    verb("inspect", "Say what is in a package, and check its files.", "ldm inspect ./package --check full", inspect_options),
    verb("plan", "Print the sampling plan of a package as JSON.", "ldm plan ./package --sampler dpmpp_2m --steps 10", plan_options),
};

int complain(const std::string& sentence, int status) {
    std::fprintf(stderr, "error: %s\n", sentence.c_str());
    return status;
}

int complain(const Context& context) {
    if (context.get() == nullptr) return complain("no memory is left", 1);
    return complain(std::string(context.text()) + " [" + std::string(context.code()) + "]", 1);
}

void print_notice(void*, ldm_log_level level, const char* text) {
    if (level == LDM_LOG_NOTICE) std::fprintf(stderr, "note: %s\n", text);
}

int print_step(void*, ldm_run*, const ldm_progress* progress) {
    std::fprintf(stderr, "\rstep %" PRId32 " of %" PRId32 "%s", progress->step, progress->steps,
                 progress->step == progress->steps ? "\n" : "");
    std::fflush(stderr);
    return 0;
}

bool read_check(const Arguments& arguments, PackageOptions& options) {
    std::string_view text = arguments.has("--check") ? arguments.text("--check") : "cached";
    if (text != "cached" && text != "full" && text != "size") return false;
    options->check = text == "full" ? LDM_CHECK_FULL : text == "size" ? LDM_CHECK_SIZE : LDM_CHECK_CACHED;
    return true;
}

// Images that were read from files, for as long as the options point at them.
struct Pictures {
    explicit Pictures(const Context& its) : context(its) {
        ldm_image_init(&image, sizeof image);
        ldm_image_init(&mask, sizeof mask);
    }
    ~Pictures() {
        ldm_image_free(&image);
        ldm_image_free(&mask);
    }
    const Context& context;
    ldm_image image, mask;
};

bool read_pictures(Arguments& arguments, Pictures& pictures, ldm_run_options& options) {
    if (arguments.has("--image")) {
        if (ldm_image_read_png(pictures.context.get(), arguments.text("--image"), &pictures.image) != LDM_OK) return false;
        options.images = &pictures.image;
        options.image_count = 1;
    }
    if (arguments.has("--mask")) {
        if (ldm_image_read_png(pictures.context.get(), arguments.text("--mask"), &pictures.mask) != LDM_OK) return false;
        options.mask = &pictures.mask;
    }
    return true;
}

bool read_run(Arguments& arguments, ldm_run_options& options) {
    constexpr std::int64_t most = INT32_MAX;
    options.prompt = arguments.text("--prompt");
    options.negative = arguments.text("--negative");
    options.sampler = arguments.text("--sampler");
    options.noise = arguments.text("--noise");
    options.syntax = arguments.has("--weighted") ? "weighted" : nullptr;
    options.has_seed = arguments.has("--seed");
    options.has_variation = arguments.has("--variation");
    return arguments.natural("--seed", options.seed) && arguments.integer("--count", 1, most, options.count) &&
           arguments.integer("--steps", 1, most, options.steps) && arguments.real("--guidance", options.guidance) &&
           arguments.real("--guidance-rescale", options.guidance_rescale) &&
           arguments.reals("--guidance-interval", options.guidance_from, options.guidance_to) &&
           arguments.pair("--size", 'x', options.width, options.height) &&
           arguments.pair("--original-size", 'x', options.original_width, options.original_height) &&
           arguments.pair("--crop-top-left", ':', options.crop_top, options.crop_left) &&
           arguments.pair("--target-size", 'x', options.target_width, options.target_height) &&
           arguments.real("--strength", options.strength) &&
           arguments.seed_and_share("--variation", options.variation_seed, options.variation_strength) &&
           arguments.integer("--stop-after", 1, most, options.stop_after);
}

// The file of an image: of several, the number is before the ending.
std::string output(const char* out, std::size_t index, std::size_t count) {
    std::string path = out == nullptr ? "image.png" : out;
    if (count == 1) return path;
    std::size_t dot = path.rfind('.');
    return path.substr(0, dot) + "-" + std::to_string(index + 1) + (dot == std::string::npos ? "" : path.substr(dot));
}

int run(Arguments& arguments) {
    ContextOptions context_options;
    context_options->log = print_notice;
    context_options->progress = print_step;
    Context context(context_options);
    if (context.get() == nullptr) return complain(context);
    RunOptions options;
    EngineOptions engine_options;
    PackageOptions package_options;
    std::int32_t threads = 0;
    if (!read_run(arguments, *options.operator->()) || !arguments.integer("--threads", 1, INT32_MAX, threads)) {
        return complain(arguments.error(), 2);
    }
    if (!read_check(arguments, package_options)) return complain("--check takes cached, full or size", 2);
    if (!arguments.has("--prompt")) return complain("no prompt was given; add --prompt \"...\"", 2);
    engine_options->engine = arguments.text("--engine");
    engine_options->library = arguments.text("--library");
    engine_options->provider = arguments.text("--provider");
    engine_options->threads = threads;
    engine_options->maps_weights = arguments.has("--map-weights");
    Pictures pictures(context);
    if (!read_pictures(arguments, pictures, *options.operator->())) return complain(context);
    auto package = Package::open(context, arguments.place().c_str(), package_options);
    if (!package) return complain(context);
    auto engine = Engine::open(context, *package, engine_options);
    if (!engine) return complain(context);
    auto its_run = Run::create(context, *package, options);
    if (!its_run || engine->draw(context, *its_run) != LDM_OK) return complain(context);
    std::size_t count = its_run->image_count();
    for (std::size_t index = 0; index < count; ++index) {
        std::string path = output(arguments.text("--out"), index, count);
        if (its_run->save_png(index, path.c_str(), arguments.has("--force")) != LDM_OK) return complain(context);
        std::printf("%s\n", path.c_str());
    }
    return 0;
}

int inspect(Arguments& arguments) {
    Context context;
    PackageOptions options;
    if (!read_check(arguments, options)) return complain("--check takes cached, full or size", 2);
    auto package = Package::open(context, arguments.place().c_str(), options);
    if (!package || ldm_package_confirm(context.get(), package->get()) != LDM_OK) return complain(context);
    ldm_defaults defaults;
    defaults.struct_size = sizeof defaults;
    if (ldm_package_defaults(context.get(), package->get(), &defaults) != LDM_OK) return complain(context);
    std::printf("%s\npackage %s\n", ldm_package_name(package->get()), ldm_package_identity(package->get()));
    std::printf("%" PRId32 "x%" PRId32 " pixels, %s, %" PRId32 " steps, guidance %g%s\n", defaults.width, defaults.height,
                defaults.sampler, defaults.steps, defaults.guidance, defaults.inpaints ? ", inpaints" : "");
    return 0;
}

int plan(Arguments& arguments) {
    Context context;
    PackageOptions options;
    options->check = LDM_CHECK_SIZE;
    std::int32_t steps = 0, start = 0;
    if (!arguments.integer("--steps", 1, INT32_MAX, steps) || !arguments.integer("--start", 0, INT32_MAX, start)) {
        return complain(arguments.error(), 2);
    }
    auto package = Package::open(context, arguments.place().c_str(), options);
    const char* json = nullptr;
    if (!package || ldm_plan_json(context.get(), package->get(), arguments.text("--sampler"), steps, start, &json) != LDM_OK) {
        return complain(context);
    }
    std::printf("%s\n", json);
    return 0;
}

int print_usage(int status) {
    std::FILE* out = status == 0 ? stdout : stderr;
    std::fputs("usage: ldm VERB PACKAGE [OPTIONS]\n\n", out);
    for (const Verb& each : verbs) {
        std::fprintf(out, "  %-10.*s%.*s\n", static_cast<int>(each.name.size()), each.name.data(),
                     static_cast<int>(each.help.size()), each.help.data());
    }
    std::fprintf(out, "\n`ldm VERB --help` lists its options. Version %s.\n", ldm_version());
    return status;
}

}  // namespace

int main(int count, char** given) {
    given = tool::in_utf8(count, given);
    std::string_view name = count < 2 ? "" : given[1];
    if (name == "--help" || name == "-h") return print_usage(0);
    if (name == "--version") {
        std::printf("%s\n", ldm_version());
        return 0;
    }
    for (const Verb& each : verbs) {
        if (each.name != name) continue;
        for (int index = 2; index < count; ++index) {
            if (std::strcmp(given[index], "--help") == 0 || std::strcmp(given[index], "-h") == 0) {
                tool::print_help(each);
                return 0;
            }
        }
        Arguments arguments;
        if (!arguments.read(each, count - 2, given + 2)) return complain(arguments.error(), 2);
        if (arguments.place().empty()) return complain("no package was given; name its folder", 2);
        return name == "run" ? run(arguments) : name == "inspect" ? inspect(arguments) : plan(arguments);
    }
    return print_usage(2);
}
