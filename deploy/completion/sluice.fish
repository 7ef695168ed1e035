# Completion for fish.
set -l commands serve check demo reference version help

complete -c sluice -f
complete -c sluice -n "not __fish_seen_subcommand_from $commands" -a serve -d 'run with a configuration'
complete -c sluice -n "not __fish_seen_subcommand_from $commands" -a check -d 'say what is wrong with one'
complete -c sluice -n "not __fish_seen_subcommand_from $commands" -a demo -d 'run in front of a simulated model'
complete -c sluice -n "not __fish_seen_subcommand_from $commands" -a reference -d 'print the reference'
complete -c sluice -n "not __fish_seen_subcommand_from $commands" -a version -d 'print the version'
complete -c sluice -n "not __fish_seen_subcommand_from $commands" -a help -d 'print the usage'
complete -c sluice -n "__fish_seen_subcommand_from serve check" -k -a "(__fish_complete_suffix .yaml)"
complete -c sluice -n "__fish_seen_subcommand_from check" -l machine -d 'what it makes of this machine'
complete -c sluice -n "__fish_seen_subcommand_from check" -l json -d 'for programs'
complete -c sluice -n "__fish_seen_subcommand_from check" -l strict -d 'warnings are an exit code of 1'
complete -c sluice -n "__fish_seen_subcommand_from check" -l root -x -a "(__fish_complete_directories)"
complete -c sluice -n "__fish_seen_subcommand_from demo" -l port -x -d 'where to listen'
complete -c sluice -n "__fish_seen_subcommand_from demo" -l admin-port -x -d 'where the admin listens'

# What `sluice-sim --help` lists: nothing here can be older than the program.
function __sluice_sim_help
    set -l program (commandline -opc)[1]
    $program --help 2>/dev/null
end
complete -c sluice-sim -f
complete -c sluice-sim -a "(__sluice_sim_help | sed -n 's/^  \(--[a-z-]*\).*/\1/p')"
complete -c sluice-sim -l profile -x -a "(__sluice_sim_help | sed -n '/^Profiles:/,\$s/^  \([^ ]*\) .*/\1/p')"

function __sluice_tune_profiles
    set -l script (path resolve (command -s (commandline -opc)[1]))
    for file in (path dirname $script)/profiles/*.conf
        path basename $file | string replace .conf ''
    end | string match -v common
end
complete -c sluice-tune -f
complete -c sluice-tune -n "not __fish_seen_subcommand_from check plan apply revert explain" -a "check plan apply revert explain"
complete -c sluice-tune -l profile -x -a "(__sluice_tune_profiles)"
complete -c sluice-tune -l connections -x
complete -c sluice-tune -l root -x -a "(__fish_complete_directories)"
complete -c sluice-tune -l only -x
complete -c sluice-tune -l with -x
for option in json verbose quiet force forget help
    complete -c sluice-tune -l $option
end
