# shellcheck shell=bash
# shellcheck disable=SC2034,SC2153,SC2154,SC2004,SC2015  # variables of other files, and subscripts taken for arithmetic
# The arithmetic of the profiles: integers, the machine's variables, + - * / % ( ), comparisons, ! && ||, and
# min() max() clamp(x,lo,hi) pow2(x). It is tokenized and evaluated here; no text of a profile reaches the shell's eval
# or its arithmetic before it has been seen to be a number or one of the names below.

FORMULA_ERROR=
FORMULA_DEPTH_MAX=40
declare -A VARIABLES=()
declare -a TOKENS=()
AT=0 RESULT=0 DEPTH=0

# tokenize TEXT: into TOKENS, or fails with FORMULA_ERROR.
tokenize() {
    local rest=$1
    TOKENS=()
    FORMULA_ERROR=
    while [ -n "$rest" ]; do
        if [[ $rest =~ ^[[:space:]]+ ]]; then
            :
        elif [[ $rest =~ ^([0-9]+)([KMG]?) ]]; then
            local digits=${BASH_REMATCH[1]} unit=${BASH_REMATCH[2]} number
            if ((${#digits} > 18)); then
                FORMULA_ERROR="the number $digits is too large"
                return 1
            fi
            number=$((10#$digits))
            case $unit in
            K) number=$((number * 1024)) ;;
            M) number=$((number * 1048576)) ;;
            G) number=$((number * 1073741824)) ;;
            esac
            rest=${rest:$((${#digits} + ${#unit}))}
            if [[ $rest == [A-Za-z0-9_.]* ]]; then
                FORMULA_ERROR="'$digits$unit${rest%%[[:space:]]*}' is not a number"
                return 1
            fi
            TOKENS+=("$number")
            continue
        elif [[ $rest =~ ^[A-Za-z_][A-Za-z0-9_]* ]]; then
            TOKENS+=("${BASH_REMATCH[0]}")
        elif [[ $rest =~ ^('||'|'&&'|'=='|'!='|'<='|'>='|[-+*/%(),<>!]) ]]; then
            TOKENS+=("${BASH_REMATCH[0]}")
        else
            FORMULA_ERROR="'${rest:0:1}' has no place in a formula"
            return 1
        fi
        rest=${rest:${#BASH_REMATCH[0]}}
    done
}

next_is() { [ "${TOKENS[AT]-}" = "$1" ]; }

take() {
    next_is "$1" || {
        FORMULA_ERROR="'$1' is missing before '${TOKENS[AT]-the end}'"
        return 1
    }
    AT=$((AT + 1))
}

# arguments NAME COUNT: ( a, b ) into ARGS_<depth>; COUNT 0 means one or more.
call() {
    local name=$1 args=() x
    take '(' || return 1
    while :; do
        expression || return 1
        args+=("$RESULT")
        next_is ',' || break
        AT=$((AT + 1))
    done
    take ')' || return 1
    case $name:${#args[@]} in
    min:[1-9]* | max:[1-9]*)
        RESULT=${args[0]}
        for x in "${args[@]}"; do
            if [ "$name" = min ]; then ((x >= RESULT)) || RESULT=$x; else ((x <= RESULT)) || RESULT=$x; fi
        done
        ;;
    clamp:3)
        RESULT=${args[0]}
        ((RESULT <= args[2])) || RESULT=${args[2]}
        ((RESULT >= args[1])) || RESULT=${args[1]}
        ;;
    pow2:1)
        RESULT=1
        while ((RESULT < args[0] && RESULT < 1 << 61)); do RESULT=$((RESULT * 2)); done
        ;;
    *)
        FORMULA_ERROR="$name() does not take ${#args[@]} values"
        return 1
        ;;
    esac
}

primary() {
    local token=${TOKENS[AT]-}
    AT=$((AT + 1))
    case $token in
    '')
        FORMULA_ERROR='the formula ends too early'
        return 1
        ;;
    [0-9]*) RESULT=$token ;;
    '(')
        expression && take ')' || return 1
        ;;
    -)
        primary || return 1
        RESULT=$((-RESULT))
        ;;
    !)
        primary || return 1
        RESULT=$((!RESULT))
        ;;
    min | max | clamp | pow2) call "$token" || return 1 ;;
    [A-Za-z_]*)
        if [ -z "${VARIABLES[$token]+x}" ]; then
            FORMULA_ERROR="'$token' is not known in a formula"
            return 1
        fi
        RESULT=${VARIABLES[$token]}
        ;;
    *)
        FORMULA_ERROR="'$token' stands where a value belongs"
        return 1
        ;;
    esac
}

product() {
    local left operator
    primary || return 1
    while next_is '*' || next_is / || next_is %; do
        left=$RESULT operator=${TOKENS[AT]}
        AT=$((AT + 1))
        primary || return 1
        if [ "$operator" = '*' ]; then
            local right=$RESULT
            RESULT=$((left * right))
            if ((right != 0 && (RESULT / right != left || RESULT < 0 && left > 0 && right > 0))); then
                FORMULA_ERROR="$left * $right is too large"
                return 1
            fi
        elif ((RESULT == 0)); then
            FORMULA_ERROR='division by zero'
            return 1
        elif [ "$operator" = / ]; then
            RESULT=$((left / RESULT))
        else
            RESULT=$((left % RESULT))
        fi
    done
}

sum() {
    local left
    product || return 1
    while next_is + || next_is -; do
        left=$RESULT
        if next_is +; then
            AT=$((AT + 1))
            product || return 1
            RESULT=$((left + RESULT))
        else
            AT=$((AT + 1))
            product || return 1
            RESULT=$((left - RESULT))
        fi
    done
}

comparison() {
    local left operator
    sum || return 1
    case ${TOKENS[AT]-} in
    '==' | '!=' | '<=' | '>=' | '<' | '>') ;;
    *) return 0 ;;
    esac
    left=$RESULT operator=${TOKENS[AT]}
    AT=$((AT + 1))
    sum || return 1
    case $operator in
    '==') RESULT=$((left == RESULT)) ;;
    '!=') RESULT=$((left != RESULT)) ;;
    '<=') RESULT=$((left <= RESULT)) ;;
    '>=') RESULT=$((left >= RESULT)) ;;
    '<') RESULT=$((left < RESULT)) ;;
    '>') RESULT=$((left > RESULT)) ;;
    esac
}

conjunction() {
    local left
    comparison || return 1
    while next_is '&&'; do
        left=$RESULT
        AT=$((AT + 1))
        comparison || return 1
        RESULT=$((left && RESULT))
    done
}

expression() {
    local left
    DEPTH=$((DEPTH + 1))
    if ((DEPTH > FORMULA_DEPTH_MAX)); then
        FORMULA_ERROR='the formula is nested too deep'
        return 1
    fi
    conjunction || return 1
    while next_is '||'; do
        left=$RESULT
        AT=$((AT + 1))
        conjunction || return 1
        RESULT=$((left || RESULT))
    done
    DEPTH=$((DEPTH - 1))
}

# evaluate_all TEXT: one or more expressions side by side, their values into VALUES.
declare -a VALUES=()
evaluate_all() {
    VALUES=()
    AT=0 DEPTH=0
    tokenize "$1" || return 1
    ((${#TOKENS[@]} > 0)) || {
        FORMULA_ERROR='there is no value'
        return 1
    }
    while ((AT < ${#TOKENS[@]})); do
        expression || return 1
        VALUES+=("$RESULT")
    done
}

# guard_holds TEXT: 0 when it does, 1 when not, 2 when it cannot be read.
guard_holds() {
    evaluate_all "$1" || return 2
    ((${#VALUES[@]} == 1)) || {
        FORMULA_ERROR="'$1' is not one condition"
        return 2
    }
    ((VALUES[0] != 0))
}

# cpumask COUNT or cpubit N in the kernel's words of 32 bits, into VALUE.
mask_of() {
    local kind=$1 n=$2 word text='' i
    if ((n < 0 || n > 8192)); then
        FORMULA_ERROR="$kind($n) is out of range"
        return 1
    fi
    if [ "$kind" = cpubit ]; then
        printf -v text '%x' $((1 << n % 32))
        for ((i = 0; i < n / 32; i++)); do text+=,00000000; done
    else
        for ((i = 0; i < n / 32; i++)); do text+=${text:+,}ffffffff; done
        if ((n % 32 || n == 0)); then
            printf -v word '%x' $(((1 << n % 32) - 1))
            text=$word${text:+,$text}
        fi
    fi
    VALUE=$text
}

# value_of TEXT [literal]: what the profile wants, as text, into VALUE: a quoted text as it is, cpumask(), cpubit() and
# cpulist(), formulas, or plain words. With "literal" digits with commas and dashes are a list, not a subtraction.
VALUE=
PLAIN_WORDS='^[A-Za-z_][-A-Za-z0-9_.:/,=@ ]*$'
value_of() {
    local text=$1
    FORMULA_ERROR=
    if [[ $text =~ ^[0-9]{1,18}$ ]]; then
        VALUE=$((10#$text))
    elif [[ $text =~ ^\"(.*)\"$ ]]; then
        VALUE=${BASH_REMATCH[1]}
    elif [[ $text =~ ^(cpumask|cpubit|cpulist)\((.*)\)$ ]]; then
        local name=${BASH_REMATCH[1]} inner=${BASH_REMATCH[2]}
        if [ "$name" != cpulist ]; then
            evaluate_all "$inner" || return 1
            mask_of "$name" "${VALUES[0]}"
            return
        fi
        evaluate_all "min($inner)" && local low=${VALUES[0]}
        evaluate_all "max($inner)" || return 1
        VALUE=$low-${VALUES[0]}
        [ "$low" != "${VALUES[0]}" ] || VALUE=$low
    elif [[ ${2-} == literal && $text =~ ^[0-9,-]+$ ]]; then
        VALUE=$text
    elif [[ $text == '{'* || $text == '['* ]]; then
        VALUE=$text
    elif [[ $text =~ ^[0-9]+[A-Za-z.][A-Za-z0-9.]*$ && ! $text =~ ^[0-9]+[KMG]$ ]]; then
        VALUE=$text
    elif [[ $text =~ ^[A-Za-z_][A-Za-z0-9_]* && -z ${VARIABLES[${BASH_REMATCH[0]}]+x} &&
        ! ${BASH_REMATCH[0]} =~ ^(min|max|clamp|pow2)$ ]]; then
        if [[ ! $text =~ $PLAIN_WORDS ]]; then
            FORMULA_ERROR="'$text' is neither a formula nor plain words (quote it, if it is text)"
            return 1
        fi
        VALUE=$text
    elif [[ $text == /* ]]; then
        VALUE=$text
    else
        evaluate_all "$text" || return 1
        VALUE="${VALUES[*]}"
    fi
}
