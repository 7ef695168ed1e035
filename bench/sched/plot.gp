# Given by bench/sched/plot: series (a TSV), picture (an SVG), name.
set terminal svg size 900,640 font "sans-serif,11" background "white"
set output picture
set datafile separator "\t"
set key outside right top
set grid ytics lc rgb "#dddddd"
set border 3
set tics nomirror
set lmargin 8
set rmargin 22
set yrange [0:1<*]
stats series skip 1 using 1 nooutput
set xrange [0:STATS_max]
set multiplot layout 3,1 title name noenhanced
set ylabel "requests"
plot series skip 1 using 1:2 with lines lw 2 lc rgb "#1f5fa8" title "limit", \
     series skip 1 using 1:3 with lines lw 1 lc rgb "#e08214" title "in flight"
plot series skip 1 using 1:4 with lines lw 1 lc rgb "#7b3294" title "queued"
# Goodput is counted by second of arrival; a mean of 20 s is drawn.
set ylabel "good requests/s"
set xlabel "s"
n = 20
array ours[n]
array best[n]
do for [i=1:n] { ours[i] = 0; best[i] = 0 }
smooth_ours(t, v) = (ours[int(t) % n + 1] = v, (sum [i=1:n] ours[i]) / n)
smooth_best(t, v) = (best[int(t) % n + 1] = v < 0 ? 0 : v, (sum [i=1:n] best[i]) / n)
plot series skip 1 using ($6 < 0 ? NaN : $1):(smooth_best($1, $6)) with lines lw 1 lc rgb "#999999" title "best fixed limit", \
     series skip 1 using 1:(smooth_ours($1, $5)) with lines lw 2 lc rgb "#1b7837" title "goodput"
unset multiplot
