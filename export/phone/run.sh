#!/usr/bin/env bash
# Measures this folder's graphs on the Android phone that adb reaches:
#   bash run.sh BINARIES [REPEATS]
# BINARIES: a folder with ONNX Runtime for Android (see README.txt). REPEATS: runs of each graph, 20 if left out.
# The table goes to stdout, and with what the phone said into results/ beside this script. ANDROID_SERIAL chooses a phone.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=/dev/null
. "$here/kit.conf"

stop() {
    echo "run.sh: $*" >&2
    exit 2
}

[ $# -ge 1 ] || stop "which folder holds ${NEEDED[*]}? bash run.sh BINARIES, see $here/README.txt"
binaries=$1
repeats=${2:-20}
[[ $repeats =~ ^[1-9][0-9]*$ ]] || stop "REPEATS is $repeats; it is a number of runs, such as 20"
missing=""
for file in "${NEEDED[@]}"; do
    [ -f "$binaries/$file" ] || missing+=" $file"
done
[ -z "$missing" ] || stop "$binaries lacks$missing: $here/README.txt says where they come from"
command -v adb >/dev/null || stop "adb is not installed: it is part of Android's platform-tools"
state=$(adb get-state 2>&1) || stop "adb reaches no phone ($state): connect one with USB debugging allowed, or choose one of several with ANDROID_SERIAL"
[ "$state" = device ] || stop "adb says that the phone is $state: unlock it and allow USB debugging"

property() { adb shell getprop "$1" </dev/null | tr -cd '[:alnum:] ._-'; }

abi=$(property ro.product.cpu.abi)
[ "$abi" = arm64-v8a ] || stop "the phone is $abi, the graphs are for arm64-v8a"
model=$(property ro.product.model)
android=$(property ro.build.version.release)
soc=$(property ro.soc.model | tr '[:upper:]' '[:lower:]')
if [ -n "$SOC" ] && [ -z "$soc" ]; then
    echo "run.sh: the phone does not say which system it has (ro.soc.model); the graphs are for $SOC_TEXT" >&2
elif [[ $soc != "$SOC"* ]]; then
    stop "the phone is $soc, the graphs are compiled for $SOC_TEXT: build them with --soc $soc"
fi
cores=$(adb shell nproc </dev/null | tr -cd '0-9')

phone=/data/local/tmp/mobilevlm/$NAME-$TARGET
results=$here/results
partial=$(mktemp -d "$here/.results.XXXXXX")
trap 'rm -rf "$partial"' EXIT
echo "pushing to $phone on $model" >&2
adb shell "rm -rf $phone/results && mkdir -p $phone/bin $phone/graphs $phone/results" </dev/null
adb push "$binaries/." "$phone/bin/" </dev/null >&2
adb push "$here/graphs/." "$phone/graphs/" </dev/null >&2
adb shell "chmod +x $phone/bin/onnxruntime_perf_test" </dev/null

# Where the DSP looks for its half of QNN, the folder of ours first.
dsp="$phone/bin;/vendor/dsp/cdsp;/vendor/lib/rfsa/adsp;/system/lib/rfsa/adsp;/dsp"

# Options of onnxruntime_perf_test (onnxruntime/test/perftest/command_args_parser.cc in microsoft/onnxruntime). For
# XNNPACK it hands -x on to XNNPACK's pool and keeps ONNX Runtime's from spinning by itself.
options() {
    case $1 in
        cpu) echo "-e cpu" ;;
        xnnpack) echo "-e xnnpack -x $cores" ;;
        qnn)
            echo "--plugin_ep_libs 'QNNExecutionProvider|$phone/bin/libonnxruntime_providers_qnn.so'" \
                "--plugin_eps QNNExecutionProvider" \
                "--plugin_ep_options 'backend_type|htp offload_graph_io_quantization|0 htp_performance_mode|burst'" \
                "-C 'session.disable_cpu_ep_fallback|1'"
            ;;
    esac
}

# measure PROVIDER GRAPH: what the program says, into a file on the phone.
measure() {
    adb shell "cd $phone/graphs && ORT_DISABLE_TELEMETRY=1 LD_LIBRARY_PATH=$phone/bin ADSP_LIBRARY_PATH='$dsp' $phone/bin/onnxruntime_perf_test \
$(options "$1") -I -m times -r $repeats $2 > $phone/results/$2.txt 2>&1" </dev/null
}

last_words() { adb shell "tail -n 3 $phone/results/$graph.txt" </dev/null | tr '\n' ' '; }

while IFS=$'\t' read -r what provider graph <&3; do
    echo "measuring $what: $graph on $provider" >&2
    if ! measure "$provider" "$graph"; then
        said=$(last_words)
        [ "$provider" = xnnpack ] || stop "$graph does not run on $provider: $said"
        echo "run.sh: no XNNPACK here ($said): $graph is measured on the CPU provider instead" >&2
        provider=cpu
        measure "$provider" "$graph" || stop "$graph does not run: $(last_words)"
    fi
    adb pull "$phone/results/$graph.txt" "$partial/" </dev/null >&2
    # "P50 Latency: 0.0123 s"
    for point in P50 P95; do
        seconds=$(awk -v point="$point" '$1 == point && $2 == "Latency:" { print $3 }' "$partial/$graph.txt")
        [ -n "$seconds" ] || stop "onnxruntime_perf_test printed no $point Latency for $graph: $(last_words)"
        printf '%s\t%s\t%s\t%s\n' "$what" "$point" "$provider" "$seconds" >>"$partial/latencies.txt"
    done
done 3<"$here/measures.txt"

# Pieces of a stage run one after the other: their times add up.
milliseconds() { awk -F'\t' -v what="$1" -v point="$2" '$1 == what && $2 == point { sum += $4; n++ } END { if (n) printf "%.3f", sum * 1000 }' "$partial/latencies.txt"; }

per_second=$(awk -v ms="$(milliseconds token P50)" 'BEGIN { printf "%.2f", 1000 / ms }')
{
    printf '%s for %s on %s (%s, Android %s), %s runs of each graph\n' "$NAME" "$TARGET" "$model" "${soc:-?}" "$android" "$repeats"
    printf '%-24s %12s %12s\n' "" "median ms" "p95 ms"
    for what in image_encode prompt token; do
        median=$(milliseconds "$what" P50)
        [ -n "$median" ] || continue
        label=${what//_/ }
        [ "$what" = prompt ] && label="prompt ($PROMPT_ROWS rows)"
        printf '%-24s %12s %12s\n' "$label" "$median" "$(milliseconds "$what" P95)"
    done
    printf '%-24s %12s\n' "tokens/s" "$per_second"
} >"$partial/table.txt"
{
    printf '{"name": "%s", "target": "%s", "compiled_for": "%s", "qairt": "%s", ' "$NAME" "$TARGET" "$SOC" "$QAIRT"
    printf '"phone": {"model": "%s", "soc": "%s", "android": "%s"}, "repeats": %s, ' "$model" "$soc" "$android" "$repeats"
    printf '"prompt_rows": %s, "milliseconds": {' "$PROMPT_ROWS"
    separator=""
    for what in image_encode prompt token; do
        median=$(milliseconds "$what" P50)
        [ -n "$median" ] || continue
        providers=$(awk -F'\t' -v what="$what" '$1 == what && !seen[$3]++ { printf "%s%s", sep, $3; sep = "," }' "$partial/latencies.txt")
        printf '%s"%s": {"median": %s, "p95": %s, "provider": "%s"}' "$separator" "$what" "$median" "$(milliseconds "$what" P95)" "$providers"
        separator=", "
    done
    printf '}, "tokens_per_second": %s}\n' "$per_second"
} >"$partial/report.json"
rm -rf "$results"
mv "$partial" "$results"
cat "$results/table.txt"
echo "details: $results" >&2
