# Given by bench/sched/plot: series (a TSV: second, limit, in flight, queued, good/s, the oracle's), other (the same of
# the simulation, or empty), picture (an SVG), name.
set terminal svg size 900,640 font "sans-serif,11" background "white"
set output picture
set datafile separator "\t"
set key outside right top
set grid ytics lc rgb "#dddddd"
set border 3
set tics nomirror
set lmargin 8
set rmargin 24
set yrange [0:1<*]
stats series using 1 nooutput
set xrange [0:STATS_max]
has_other = strlen(other) > 0
background = has_other ? other : series
set multiplot layout 3,1 title name noenhanced
set ylabel "requests"
plot series using 1:3 with lines lw 1 lc rgb "#e08214" title "in flight", \
     background using 1:(has_other ? $2 : NaN) with lines lw 1 lc rgb "#999999" title has_other ? "limit, simulated" : "", \
     series using 1:2 with lines lw 2 lc rgb "#1f5fa8" title "limit"
plot background using 1:(has_other ? $4 : NaN) with lines lw 1 lc rgb "#999999" title has_other ? "queued, simulated" : "", \
     series using 1:4 with lines lw 1 lc rgb "#7b3294" title "queued"
set ylabel "good requests/s"
set xlabel "s"
plot series using 1:6 with lines lw 1 lc rgb "#bbbbbb" title "best fixed limit", \
     background using 1:(has_other ? $5 : NaN) with lines lw 1 lc rgb "#666666" title has_other ? "goodput, simulated" : "", \
     series using 1:5 with lines lw 2 lc rgb "#1b7837" title "goodput"
unset multiplot
