"""Names as they are stored and as people ask for them: misspelt, reordered, accented, partial, in eight scripts."""

from typing import NamedTuple

# Everybody in the list that is searched: alice's patients, all born on the same day.
PEOPLE = [
    "John Smith", "Jane Smith", "Robert Brown", "Katherine Johnson", "Stephen Harris", "Mary Ann Evans",
    "Sean O'Brien", "Jean-Pierre Dupont", "José Muñoz", "François Lefèvre", "Jürgen Müller", "Søren Kjærgaard",
    "Łukasz Żółkiewski", "Nguyễn Thị Ánh", "İbrahim Yıldız", "Björk Guðmundsdóttir", "Anna Straßer", "Chloë Æthelred",
    "Maria José da Silva Santos", "Dr. Meera Rao", "Mohammed Al-Rashid", "Siobhan McDonald", "Alexandre Dumas",
    "Иван Петров", "Наталья Соловьёва", "Юрий Гагарин", "Зоя Космодемьянская",
    "Γιώργος Παπαδόπουλος", "Ελένη Νικολάου", "Σωκράτης Δημητρίου",
    "राम कुमार", "मीरा शर्मा", "कृष्ण ज़ैदी", "अनिल गुप्ता",
    "محمد علي", "أحمد حسن", "فاطمة الزهراء", "مُصْطَفَى إبراهيم",
    "王小明", "李娜", "欧阳 修", "김민수", "박지영", "שָׂרָה כהן",
]  # fmt: skip


class Case(NamedTuple):
    asked: str
    finds: str  # the name that must be found; empty for nobody at all
    likely_duplicate: bool = (
        False  # whether a new patient who is called so and born on that day is likely the same person
    )
    not_finds: str = ""


CASES = [
    # As it is written, in another case, order or with other spaces
    Case("John Smith", "John Smith", True, "Jane Smith"),
    Case("john smith", "John Smith", True),
    Case("SMITH, JOHN", "John Smith", True),
    Case("  smith   john ", "John Smith", True),
    Case("Meera Rao", "Dr. Meera Rao", True),
    Case("Ｊｏｈｎ　Ｓｍｉｔｈ", "John Smith", True),
    Case("Santos Maria José", "Maria José da Silva Santos", True),
    # Misspelt
    Case("Jon Smyth", "John Smith", True, "Jane Smith"),
    Case("Jhon Smith", "John Smith", True),
    Case("Johnn Smiht", "John Smith", True),
    Case("Katharine Jonson", "Katherine Johnson", True),
    Case("Steven Harris", "Stephen Harris", True),
    Case("Stephan Haris", "Stephen Harris", True),
    Case("Alexander Dumas", "Alexandre Dumas", True),
    Case("Mohamed Al Rashid", "Mohammed Al-Rashid", True),
    Case("Shiobhan MacDonald", "Siobhan McDonald", True),
    Case("Robret Brwon", "Robert Brown", True),
    # Accents, letters of their own, points
    Case("Jose Munoz", "José Muñoz", True),
    Case("francois lefevre", "François Lefèvre", True),
    Case("Jurgen Muller", "Jürgen Müller", True),
    Case("Juergen Mueller", "Jürgen Müller", True),
    Case("Soren Kjaergaard", "Søren Kjærgaard", True),
    Case("lukasz zolkiewski", "Łukasz Żółkiewski", True),
    Case("Nguyen Thi Anh", "Nguyễn Thị Ánh", True),
    Case("ibrahim yildiz", "İbrahim Yıldız", True),
    Case("IBRAHIM YILDIZ", "İbrahim Yıldız", True),
    Case("Bjork Gudmundsdottir", "Björk Guðmundsdóttir", True),
    Case("anna strasser", "Anna Straßer", True),
    Case("chloe aethelred", "Chloë Æthelred", True),
    # Put together and taken apart
    Case("Sean OBrien", "Sean O'Brien", True),
    Case("Sean O’Brien", "Sean O'Brien", True),
    Case("o brien", "Sean O'Brien"),
    Case("Jean Pierre Dupont", "Jean-Pierre Dupont", True),
    Case("jeanpierre dupont", "Jean-Pierre Dupont", True),
    Case("alrashid", "Mohammed Al-Rashid"),
    # Partial
    Case("smi", "John Smith"),
    Case("smith", "Jane Smith"),
    Case("j smith", "Jane Smith"),
    Case("kat john", "Katherine Johnson"),
    Case("silva", "Maria José da Silva Santos"),
    Case("Mary Evans", "Mary Ann Evans", True),
    # Cyrillic
    Case("иван петров", "Иван Петров", True),
    Case("Петров Иван", "Иван Петров", True),
    Case("Иван Питров", "Иван Петров", True),
    Case("Соловьева Наталья", "Наталья Соловьёва", True),
    Case("юрии гагарин", "Юрий Гагарин", True),
    Case("космодем", "Зоя Космодемьянская"),
    # Greek
    Case("ΓΙΩΡΓΟΣ ΠΑΠΑΔΟΠΟΥΛΟΣ", "Γιώργος Παπαδόπουλος", True),
    Case("γιωργος παπαδοπουλος", "Γιώργος Παπαδόπουλος", True),
    Case("Νικολαου Ελενη", "Ελένη Νικολάου", True),
    Case("Σωκρατησ", "Σωκράτης Δημητρίου"),
    # Devanagari
    Case("राम कुमार", "राम कुमार", True, "मीरा शर्मा"),
    Case("शर्मा मीरा", "मीरा शर्मा", True),
    Case("कृष्ण जैदी", "कृष्ण ज़ैदी", True),
    Case("गुप्त", "अनिल गुप्ता"),
    # Arabic and Hebrew
    Case("محمّد عليّ", "محمد علي", True),
    Case("احمد حسن", "أحمد حسن", True),
    Case("حسن احمد", "أحمد حسن", True, "محمد علي"),
    Case("فاطمه الزهراء", "فاطمة الزهراء", True),
    Case("مصطفى ابراهیم", "مُصْطَفَى إبراهيم", True),
    Case("مـحـمـد علي", "محمد علي", True),
    Case("שרה כהן", "שָׂרָה כהן", True),
    # Han and Hangul: with a space or without, the given name alone, the family's
    Case("王小明", "王小明", True, "李娜"),
    Case("王 小明", "王小明", True),
    Case("小明", "王小明"),
    Case("王", "王小明", False, "李娜"),
    Case("欧阳修", "欧阳 修", True),
    Case("김민수", "김민수", True, "박지영"),
    Case("민수", "김민수"),
    # Nobody
    Case("Smith Brown", ""),
    Case("John Evans", ""),
    Case("Zzyzx Quux", ""),
    Case("John Zzyzx", ""),
    Case("Schmidt", ""),
    Case("Петренко", ""),
    Case("Αλέξανδρος", ""),
    Case("सुनीता", ""),
    Case("خالد", ""),
    Case("張偉", ""),
    Case("%", ""),
    Case("_ohn", "John Smith"),
    Case("' OR 1=1 --", ""),
    Case("John & Jane", "", False, "John Smith"),
]
