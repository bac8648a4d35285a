"""The plain way to align two tokenizations: two pointers over lists of ints.

What others are measured and tested against; it is never used to train.
"""

from __future__ import annotations

from collections.abc import Sequence


def two_pointer_chunks(
    teacher_stops: Sequence[int], student_stops: Sequence[int]
) -> list[tuple[int, int, int, int]]:
    """Chunks as (teacher start, teacher stop, student start, student stop), in tokens.

    Args:
        teacher_stops: The byte at which each teacher token stops, strictly rising.
        student_stops: The same for the student; both end at the same byte.
    """
    chunks = []
    teacher = student = teacher_start = student_start = 0
    while teacher < len(teacher_stops) and student < len(student_stops):
        if teacher_stops[teacher] < student_stops[student]:
            teacher += 1
        elif teacher_stops[teacher] > student_stops[student]:
            student += 1
        else:
            teacher, student = teacher + 1, student + 1
            chunks.append((teacher_start, teacher, student_start, student))
            teacher_start, student_start = teacher, student
    return chunks
