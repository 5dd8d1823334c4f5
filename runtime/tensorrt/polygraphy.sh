
usage() {
    cat >&2 <<EOF
bash polygraphy.sh STEP      $graph.onnx of $bundle
  golden             on ONNX Runtime, against the values of the bundle's sample
  golden --trt       on TensorRT, against the same values
  engine             the compiled engine, against the same values
  layers             every layer on TensorRT against ONNX Runtime: stops at the first that differs
  reduce             cuts the graph down to the smallest one that differs on TensorRT: reduced.onnx
  inspect            prints what is in reduced.onnx
  keep               saves what every layer gives on ONNX Runtime, which layers and reduce then take: layers.json
  layers --onnxrt, reduce --onnxrt
                     without TensorRT: what differs here from a layers.json of another machine
EOF
    exit 2
}

run() {
    echo "+ $*" >&2
    "$@"
}

# Protobuf ends at 2 GB, and Polygraphy edits a graph together with its weights.
require_editable() {
    ((bytes < 2 ** 31)) && return
    echo "$graph.onnx and its weights have $bytes bytes, Polygraphy edits graphs below 2147483648:" \
        "build the bundle in more pieces (build_engines.py --blocks N)" >&2
    exit 2
}

# Up to 1.29 its float16 QuantizeLinear truncates: https://github.com/microsoft/onnxruntime/pull/32452
require_rounding() {
    local version
    [ "$quantizes" = yes ] || return 0
    version=$(python3 -c 'import onnxruntime; print(onnxruntime.__version__)')
    [ "$(printf '%s\n' 1.31 "$version" | sort -V | head -n 1)" != 1.31 ] || return 0
    echo "ONNX Runtime $version truncates where int8 layers round: take 1.31 or newer (Python 3.11 or newer). Elsewhere" \
        "\`keep\` saves what \`layers\` and \`reduce\` need here: copy layers.json and layers-inputs.json" >&2
    exit 2
}

require_saved() {
    [ -f layers.json ] && return
    echo "there is no layers.json to compare with: \`keep\` makes one where the bundle is good, before $graph was altered" >&2
    exit 2
}

# All values, and the same as inputs: graphs begin and end anywhere when they are cut.
keep() {
    require_editable
    require_rounding
    run polygraphy run "$onnx" --onnxrt "${as_written[@]}" --load-inputs inputs.json --onnx-outputs '*' \
        --save-outputs layers.partial.json
    run polygraphy data merge inputs.json layers.partial.json -o layers-inputs.json
    mv layers.partial.json layers.json
}

cd "$(dirname "${BASH_SOURCE[0]}")"
export ORT_DISABLE_TELEMETRY=1
command -v polygraphy >/dev/null || { echo "Polygraphy is missing: pip install 'mobilevlm[polygraphy]'" >&2; exit 2; }
onnx=$bundle/$graph.onnx
[ -f "$onnx" ] || {
    echo "there is no $onnx: copy the whole bundle, or let runtime/verify.py --polygraphy write this script again" >&2
    exit 2
}
# ONNX Runtime's own rewriting would compute int4 layers with int8 activations.
as_written=(--graph-optimization-level ORT_DISABLE_ALL)
like_the_build=(--strongly-typed --max-aux-streams 0)
fixed=() static=()
if ((${#shapes[@]})); then
    fixed=(--input-shapes "${shapes[@]}")
    static=(--model-input-shapes "${shapes[@]}")
fi
golden=(--load-inputs inputs.json --load-outputs outputs.json)
alike=(--compare snr --snr-threshold "$device_floor_db")
step=${1:-}
shift || usage
case $step in
    golden)
        [ $# -gt 0 ] || set -- --onnxrt
        [ "$*" != --onnxrt ] || alike=(--compare snr --snr-threshold "$floor_db")
        [[ "$*" != *--onnxrt* ]] || require_rounding
        run polygraphy run "$onnx" "$@" "${as_written[@]}" "${like_the_build[@]}" "${fixed[@]}" \
            "${golden[@]}" "${alike[@]}"
        ;;
    engine)
        run polygraphy run "$bundle/$graph.engine" --trt --optimization-profile "$profile" \
            "${golden[@]}" "${alike[@]}"
        ;;
    layers)
        require_editable
        [ $# -gt 0 ] || set -- --trt
        [ "$*" != --onnxrt ] || require_saved
        if [ -f layers.json ]; then
            others=(--load-outputs layers.json)
        else
            others=(--onnxrt)
        fi
        [[ "$* ${others[*]}" != *--onnxrt* ]] || require_rounding
        run polygraphy run "$onnx" "$@" "${others[@]}" "${as_written[@]}" "${like_the_build[@]}" "${fixed[@]}" \
            --onnx-outputs "${values[@]}" --trt-outputs "${values[@]}" --load-inputs inputs.json \
            "${alike[@]}" --fail-fast
        ;;
    reduce) # a cut that TensorRT refuses to build is not the failure: differing outputs are
        require_editable
        if [ "${1:-}" = --onnxrt ]; then
            require_saved
            require_rounding
        fi
        [ -f layers.json ] || keep
        run polygraphy debug reduce "$onnx" --output reduced.onnx "${static[@]}" --load-inputs layers-inputs.json \
            --hide-fail-output --fail-regex 'Mismatched outputs' --check polygraphy run polygraphy_debug.onnx \
            "${1:---trt}" "${as_written[@]}" "${like_the_build[@]}" --load-inputs layers-inputs.json \
            --load-outputs layers.json "${alike[@]}"
        ;;
    keep) keep ;;
    inspect)
        [ -f reduced.onnx ] || { echo "there is no reduced.onnx yet: bash polygraphy.sh reduce" >&2; exit 2; }
        run polygraphy inspect model reduced.onnx --show layers attrs
        ;;
    *) usage ;;
esac
