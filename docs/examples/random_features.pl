#!/usr/bin/perl
# A trainer in another language: logistic regression on random features of points that it generates.
#   python run.py experiment=example_perl
# The task: is a point of the plane inside a disc or a ring around it? The architecture describes the features.
use strict;
use warnings;
use POSIX qw(clock CLOCKS_PER_SEC);

$| = 1;    # flush each report

my %given = map { /^--(\w+)=(.*)$/s ? ($1 => $2) : die "an argument must be --name=value, got $_\n" } @ARGV;
my %is_check = map { $_ => 1 } split /,/, $given{check_steps};
my $file = "$given{checkpoint_dir}/weights.txt";
my $pi   = 4 * atan2(1, 1);

# After SIGTERM it still finishes its cycle: the report, then the checkpoint.
my $is_over = 0;
$SIG{TERM} = sub { $is_over = 1 };

my @train = points(1, 2000);
splice @train, int($given{data_fraction} * @train + 0.5);    # a smaller fraction is a prefix of a larger one
my @valid = points(2, 500);

srand($given{seed} + 1);
my $count    = int($given{features} * $given{width} + 0.5) || 1;
my @features = map { [gauss() * $given{frequency}, gauss() * $given{frequency}, 2 * $pi * rand] } 1 .. $count;
my ($step, @weights) = restored();    # followed by their running mean, which is validated
my @mean = splice @weights, $count + 1;

my $seconds = 0;
my $began   = clock();
while ($step < $given{total_steps}) {
    train_step($step++);
    next unless $is_check{$step};
    $seconds += (clock() - $began) / CLOCKS_PER_SEC;    # of training only, since the start
    printf qq({"step": %d, "accuracy": %.6f, "train_seconds": %.6f}\n), $step, accuracy(), $seconds;
    save();
    last if $is_over;
    $began = clock();
}

# The points of a step depend on seed and step only, so that a resumed training gives the same scores.
sub train_step {
    my ($step) = @_;
    srand($given{seed} * 1_000_003 + $step);
    my @slope = (0) x @weights;
    for (1 .. 32) {
        my ($x, $y, $label) = @{ $train[ int rand @train ] };
        my @inputs = (1, features($x, $y));
        my $error  = 1 / (1 + exp -sum_of_products(\@weights, \@inputs)) - $label;
        $slope[$_] += $error * $inputs[$_] / 32 for 0 .. $#inputs;
    }
    my $rate = $given{learning_rate} * (1 - $step / $given{total_steps});
    for (0 .. $#weights) {
        $weights[$_] -= $rate * $slope[$_];
        $mean[$_] += 0.01 * ($weights[$_] - $mean[$_]);
    }
}

sub accuracy {
    my $hits = 0;
    for (@valid) {
        my ($x, $y, $label) = @$_;
        my $is_inside = sum_of_products(\@mean, [1, features($x, $y)]) > 0;
        $hits++ if $is_inside == $label;
    }
    return $hits / @valid;
}

sub features {
    my ($x, $y) = @_;
    my @waves = map { $_->[0] * $x + $_->[1] * $y + $_->[2] } @features;
    return $given{shape} eq "cosine" ? map { cos $_ } @waves : map { cos($_) > 0 ? 1 : -1 } @waves;
}

sub points {
    my ($seed, $count) = @_;
    srand($seed);
    return map {
        my ($x, $y) = (4 * rand() - 2, 4 * rand() - 2);
        my $radius = sqrt($x * $x + $y * $y);
        [$x, $y, ($radius < 0.7 || ($radius > 1.3 && $radius < 1.8)) ? 1 : 0];
    } 1 .. $count;
}

sub gauss { return sqrt(-2 * log(1 - rand)) * cos(2 * $pi * rand) }

sub sum_of_products {
    my ($left, $right) = @_;
    my $sum = 0;
    $sum += $left->[$_] * $right->[$_] for 0 .. $#$left;
    return $sum;
}

# Save atomically: a kill leaves the old file or the new one.
sub save {
    open my $out, ">", "$file.new" or die "$file.new: $!\n";
    print $out join("\n", $step, map { sprintf "%.17g", $_ } @weights, @mean), "\n";
    close $out or die "$file.new: $!\n";
    rename "$file.new", $file or die "$file: $!\n";
}

sub restored {
    return (0, (0) x (2 * $count + 2)) unless -e $file;
    open my $in, "<", $file or die "$file: $!\n";
    chomp(my @lines = <$in>);
    return @lines;
}
