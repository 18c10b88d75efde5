// OpenVINO by its plugin: the graphs of the conformance kit against numpy, threads, devices, properties, and its end.
#include <csignal>
#include <memory>

#include "core/codes.h"
#include "tests/golden_graphs.h"
#include "tests/scratch.h"

using namespace ldm;
using engines::Settings;

static Settings openvino_settings() {
    Settings settings;
    settings.engine = "openvino";
    settings.library = LDM_OPENVINO_PLUGIN;
    return settings;
}

static GoldenGraphs golden() { return GoldenGraphs(1e-5); }

static void graphs_compute_what_numpy_does() {
    GoldenComponents opened(openvino_settings());
    golden().evaluate_all(opened);
}

static void threads_share_a_package() {
    for (std::int64_t threads : {0, 1}) {
        Settings settings = openvino_settings();
        settings.threads = threads;
        GoldenComponents opened(settings);
        golden().evaluate_in_threads(opened, 20);
    }
}

static bool is_refused(const Settings& settings, const char* code, std::string_view sentence) {
    GoldenComponents opened(settings);
    Status status = opened.components.open(opened.scope, "unet");
    bool is_as_expected = !status.ok() && std::string_view(status.code()) == code &&
                          std::string_view(opened.failure.text).find(sentence) != std::string_view::npos;
    if (!is_as_expected) std::fprintf(stderr, "  %s\n", opened.failure.text);
    return is_as_expected;
}

static void what_openvino_does_not_know_is_refused() {
    Settings settings = openvino_settings();
    settings.provider = "ABACUS";
    CHECK(is_refused(settings, codes::engine_unavailable, "OpenVINO has no device 'ABACUS' here; it has CPU"));
    settings = openvino_settings();
    const char *unknown = "BEADS", *precision = "INFERENCE_PRECISION_HINT", *ten = "10", *f8 = "f8", *f32 = "f32";
    settings.options = {&unknown, &ten, 1};
    CHECK(is_refused(settings, codes::engine_failed, "BEADS"));
    settings.options = {&precision, &f8, 1};
    CHECK(is_refused(settings, codes::engine_failed, "f8"));
    settings.options = {&precision, &f32, 1};
    GoldenComponents opened(settings);
    CHECK(opened.components.open(opened.scope, "unet").ok());
}

// Engines that end in the order in which they began leave no stack for signal handlers behind that is gone.
static void a_signal_after_their_end_is_only_that() {
    static volatile std::sig_atomic_t noted = 0;
    auto first = std::make_unique<GoldenComponents>(openvino_settings());
    auto second = std::make_unique<GoldenComponents>(openvino_settings());
    golden().evaluate_all(*first);
    golden().evaluate_all(*second);
    first.reset();
    golden().evaluate_all(*second);
    second.reset();
    struct sigaction action{};
    action.sa_handler = [](int) { noted = 1; };
    action.sa_flags = SA_ONSTACK;
    CHECK(::sigaction(SIGUSR1, &action, nullptr) == 0 && std::raise(SIGUSR1) == 0 && noted == 1);
}

int main() {
    Scratch scratch;  // its cache folder
    graphs_compute_what_numpy_does();
    threads_share_a_package();
    what_openvino_does_not_know_is_refused();
    a_signal_after_their_end_is_only_that();
    return done();
}
